"""Two verifiers that know nothing of each other judge the same audit chains.

    LLM_PROXY=path/to/llm-proxy VERIFIER=tools/verify_audit.py [DATA_DIR=a/data/directory] python run.py

The chains are written here, by a third program that follows the published formats: a good one
and damaged copies of it from a seed (TEST_SEED repeats one). With DATA_DIR the chain that the
product itself wrote there is judged too. Prints one line a case and `N passed, N failed` at the
end; the exit status is 0 if none failed.
"""

import base64
import hashlib
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
import traceback
import uuid

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

ORIGIN = "example.com/audit/second-opinion"
SIZE, KEPT, DAMAGES = 700, 300, 50
VERDICTS = {0: "verified", 1: "tampered", 2: "not proven", 3: "usage"}


def sha(*parts):
    return hashlib.sha256(b"".join(parts)).digest()


def encoded(data):
    return base64.b64encode(data).decode()


class Key:
    def __init__(self, name, seed):
        self.name = name
        self.private = Ed25519PrivateKey.from_private_bytes(sha(seed))
        data = b"\1" + self.private.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
        self.number = sha(name.encode(), b"\n", data)[:4]
        self.text = f"{name}+{self.number.hex()}+{encoded(data)}"

    def line(self, body):
        return f"\u2014 {self.name} {encoded(self.number + self.private.sign(body.encode()))}\n"


def entries(count):
    """Entries of two producers, as the schema has them."""
    for at in range(count):
        producer, seq = f"i{at % 2}/db", at // 2 + 1
        yield {
            "action": "project.list",
            "actor": {"auth": "management_token", "kind": "root", "role": "admin"},
            "at": "2026-11-23T10:%02d:%02d.000001Z" % (at // 60 % 60, at % 60),
            "boot": "b1",
            "details": {"rows": at},
            "id": str(uuid.UUID(bytes=b"\1\x98" + sha(b"%d" % at)[:4] + b"\x70\0\x80" + sha(b"%d" % at)[4:11])),
            "instance": f"i{at % 2}",
            "log": ORIGIN,
            "producer": producer,
            "result": "success",
            "seq": seq,
            "v": 1,
        }


def leaf(entry):
    return json.dumps(entry, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def subtree(hashes):
    if len(hashes) == 1:
        return hashes[0]
    half = 1 << (len(hashes) - 1).bit_length() - 1
    return sha(b"\1", subtree(hashes[:half]), subtree(hashes[half:]))


def tiles(leaves, sizes):
    """The files of a tree that was published at each of the sizes."""
    files, rows = {}, [[sha(b"\0", it) for it in leaves]]
    while len(rows[-1]) >= 256:
        whole = range(len(rows[-1]) // 256)
        rows.append([subtree(rows[-1][256 * it : 256 * it + 256]) for it in whole])
    bundle = [len(it).to_bytes(2, "big") + it for it in leaves]
    for size in sizes:
        for level, row in [("entries", bundle), *enumerate(rows)]:
            count = size // 256 ** (0 if level == "entries" else level)
            for at in range((count + 255) // 256):
                part = row[256 * at : min(count, 256 * at + 256)]
                name = f"tile/{level}/{at:03}" + (f".p/{len(part)}" if len(part) < 256 else "")
                files[name] = b"".join(part)
    return files


def note(leaves, key):
    root = subtree([sha(b"\0", it) for it in leaves]) if leaves else sha()
    body = f"{key.name}\n{len(leaves)}\n{encoded(root)}\n"
    return (body + "\n" + key.line(body)).encode()


def chain(leaves, key, sizes=()):
    files = tiles(leaves, [*sizes, len(leaves)])
    files["checkpoint"] = note(leaves, key)
    files["keys"] = f"llm-proxy/audit/keyring/v1\n0 - {key.text}\n".encode()
    return files


class World:
    def __init__(self, environment):
        self.binary, self.verifier = environment["LLM_PROXY"], environment["VERIFIER"]
        self.data_dir = environment.get("DATA_DIR")
        self.seed = int(environment.get("TEST_SEED") or random.SystemRandom().randrange(2**32))
        self.scratch = tempfile.mkdtemp(prefix="second-opinion-")
        self.key = Key(ORIGIN, b"a key of the chain")
        self.leaves = [leaf(it) for it in entries(SIZE)]
        self.good = chain(self.leaves, self.key, [KEPT, 512, 690])
        self.vkey = self.keep("vkey", self.key.text.encode() + b"\n")
        self.kept = self.keep("kept", note(self.leaves[:KEPT], self.key))

    def keep(self, name, data):
        path = os.path.join(self.scratch, name)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "wb") as file:
            file.write(data)
        return path

    def write(self, files):
        tree = os.path.join(self.scratch, "tree")
        shutil.rmtree(tree, ignore_errors=True)
        os.makedirs(tree)
        for name, data in files.items():
            self.keep(os.path.join("tree", name), data)
        return tree

    def judged(self, *words, directory):
        """What both say of a directory; they must say the same."""
        ours = [self.binary, "audit", "verify", "--dir", directory, *words]
        theirs = [sys.executable, "-B", self.verifier, directory, *words]
        told = []
        for command in (ours, theirs):
            done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
            told.append((VERDICTS.get(done.returncode, done.returncode), done.stdout))
        (one, one_text), (other, other_text) = told
        assert one == other, f"ours: {one}\n{one_text}\ntheirs: {other}\n{other_text}"
        return one, one_text, other_text

    def check(self, expected, files, *words, says=()):
        verdict, ours, theirs = self.judged(*words, directory=self.write(files))
        assert verdict == expected, f"{verdict}, not {expected}\n{ours}\n{theirs}"
        for text in says:
            assert text in ours and text in theirs, f"no {text}\n{ours}\n{theirs}"


CASES = []


def case(function):
    CASES.append(function)
    return function


@case
def the_good_chain_verifies(world):
    world.check("verified", world.good, "--key", world.vkey)
    world.check("verified", world.good, "--key", world.vkey, "--checkpoint", world.kept)
    world.check("not proven", world.good)
    world.check("not proven", {}, "--key", world.vkey)
    world.check("usage", world.good, "--key", os.path.join(world.scratch, "nowhere"))


@case
def fifty_damaged_chains_do_not(world):
    rng = random.Random(world.seed)
    for number in range(DAMAGES):
        files, what = damage(dict(world.good), rng)
        try:
            world.check("tampered", files, "--key", world.vkey)
        except AssertionError as error:
            raise AssertionError(f"damage {number}, {what}: {error}") from error


def damage(files, rng):
    """One damage to one file."""
    names = sorted(files)
    name = rng.choice(names)
    data = bytearray(files[name])
    kind = rng.choice(["flip", "flip", "flip", "cut", "append", "delete", "swap", "zero"])
    at = rng.randrange(len(data))
    if kind == "flip":
        data[at] ^= 1 << rng.randrange(8)
    elif kind == "cut":
        data = data[:at]
    elif kind == "append":
        data += bytes(rng.randrange(256) for _ in range(rng.randrange(1, 40)))
    elif kind == "zero":
        end = min(len(data), at + rng.randrange(1, 64))
        data[at:end] = bytes((byte + 1) % 256 for byte in data[at:end])
    elif kind == "delete":
        # Only the newest width of a tile is needed.
        needed = [it for it in names if not it.startswith("tile/") or it in tiles([b""] * SIZE, [SIZE])]
        name = rng.choice([it for it in needed if it != "checkpoint"])
        del files[name]
        return files, f"{kind} {name}"
    elif kind == "swap":
        other = rng.choice([it for it in names if files[it] != files[name]])
        files[other], data = bytes(data), files[other]
        name, kind = name, f"swap with {other}:"
    files[name] = bytes(data)
    return files, f"{kind} {name} at {at}"


@case
def forgeries_under_the_real_key_are_called_the_same(world):
    key, vkey = world.key, world.vkey
    whole = list(entries(SIZE))
    dropped = [it for it in whole if it["details"]["rows"] != 124]
    numbers = {}
    for entry in dropped:
        numbers[entry["producer"]] = entry["seq"] = numbers.get(entry["producer"], 0) + 1
    forged = chain([leaf(it) for it in dropped], key)
    world.check("verified", forged, "--key", vkey)
    world.check("not proven", forged)
    world.check("tampered", forged, "--key", vkey, "--checkpoint", world.kept, says=["FORK"])
    older = chain(world.leaves[:200], key)
    world.check("tampered", older, "--key", vkey, "--checkpoint", world.kept, says=["ROLLBACK at entry 200"])
    gap = world.leaves[:9] + world.leaves[10:]
    world.check("tampered", chain(gap, key), "--key", vkey, says=["GAP at entry 10"])
    again = world.leaves[:9] + world.leaves[7:]
    world.check("tampered", chain(again, key), "--key", vkey, says=["DUPLICATE at entry 9"])
    other = Key(ORIGIN, b"another key")
    world.check("tampered", chain(world.leaves, other), "--key", vkey, says=["SIGNATURE"])
    foreign = Key("example.com/other", b"a key of the chain")
    world.check("tampered", chain(world.leaves, foreign), "--key", vkey, says=["SIGNATURE"])


@case
def other_bytes_for_an_entry_are_called_the_same(world):
    text = world.leaves[5].decode()
    first, rest = text[1:].split(",", 1)
    for other in [
        text.replace(":", ": ", 1),
        "{" + rest[:-1] + "," + first + "}",
        text.replace('"action"', '"\\u0061ction"'),
        "{" + first + "," + first + "," + rest,
        text.replace('"v":1', '"v":1.0'),
        text.replace('"seq":3', '"seq":3e0'),
        text.replace('"rows":5', '"rows":9007199254740993'),
        text.replace('"rows":5', '"rows":null'),
        text + "\n",
    ]:
        changed = [*world.leaves[:5], other.encode(), *world.leaves[6:]]
        says = ["NOT_CANONICAL at entry 5"]
        world.check("tampered", chain(changed, world.key), "--key", world.vkey, says=says)
    unknown = text.replace('"v":1', '"v":2').encode()
    changed = [*world.leaves[:5], unknown, *world.leaves[6:]]
    world.check("tampered", chain(changed, world.key), "--key", world.vkey, says=["LEAF at entry 5"])


@case
def exports_are_called_the_same(world):
    lines = [
        {"index": at, "leaf": it.decode(), "leaf_hash": sha(b"\0", it).hex()}
        for at, it in enumerate(world.leaves[40:60], 40)
    ]
    end = {"checkpoint": world.good["checkpoint"].decode(), "entries": len(lines)}

    def export(lines):
        text = "".join(json.dumps(it) + "\n" for it in lines)
        return world.keep("export", text.encode())

    def check(expected, lines):
        words = ["--key", world.vkey, "--export", export(lines)]
        world.check(expected, world.good, *words)

    check("verified", [*lines, end])
    edited = dict(lines[3], leaf=lines[3]["leaf"].replace("admin", "audit"))
    check("tampered", [*lines[:3], edited, *lines[4:], end])
    check("tampered", [*lines[:3], *lines[4:], end])
    check("tampered", [*lines[:3], lines[4], lines[3], *lines[5:], end])
    check("tampered", [*lines[:4], lines[3], *lines[4:], end])
    check("tampered", [*lines[:19], end])


@case
def what_the_product_wrote_is_judged_the_same(world):
    if not world.data_dir:
        print("        (no DATA_DIR)")
        return
    vkey = os.path.join(world.data_dir, "audit", "vkey")
    verdict, ours, theirs = world.judged("--key", vkey, directory=world.data_dir)
    assert verdict == "verified", f"{verdict}\n{ours}\n{theirs}"
    good = {}
    tree = os.path.join(world.data_dir, "tlog")
    for place, _, names in os.walk(tree):
        for name in names:
            path = os.path.join(place, name)
            with open(path, "rb") as file:
                good[os.path.relpath(path, tree)] = file.read()
    rng = random.Random(world.seed)
    for _ in range(10):
        name = rng.choice([it for it in sorted(good) if not it.startswith("rotations/")])
        files = dict(good)
        at = rng.randrange(len(files[name]))
        files[name] = files[name][:at] + bytes([files[name][at] ^ 1]) + files[name][at + 1 :]
        world.check("tampered", files, "--key", vkey)


def main():
    world = World(os.environ)
    print(f"TEST_SEED={world.seed}")
    failed = 0
    for function in CASES:
        try:
            function(world)
            print(f"ok      {function.__name__}")
        except Exception:
            failed += 1
            print(f"FAILED  {function.__name__}")
            traceback.print_exc(file=sys.stdout)
    shutil.rmtree(world.scratch, ignore_errors=True)
    print(f"{len(CASES) - failed} passed, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
