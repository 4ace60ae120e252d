#!/usr/bin/env python3
"""A second opinion on an audit chain of llm-proxy, for auditors.

    python3 verify_audit.py DIR --key VKEY|FILE [--checkpoint FILE]... [--export FILE]...

DIR is a data directory or its directory `tlog`. Keys are verifier keys (one a line in a
file; after a rotation all of them) that came to you on another way than DIR. A checkpoint
is a note that you kept, or lines of JSON that carry some (the proxy's standard output).
Written from RFC 6962, RFC 8785 and C2SP signed-note, tlog-checkpoint and tlog-tiles, not
from the product's code. Needs Python 3.8 and `cryptography`; reads only. Not checked: the
database, openings, sealed segments, the schema of single actions, counts of refusals,
receipts of rotations, and what retention dropped (which counts as missing).
Exit status: 0 verified; 1 tampering, with class and index; 2 nothing to verify, incomplete,
or self-consistent only because no key was given; 3 wrong usage.
"""
import argparse, base64, hashlib, json, os, re, sys
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

NEEDED = set("v id log producer seq action result at instance boot actor".split())
KNOWN = NEEDED.union("reason_code on_behalf_of project_id token_id target request change".split(),
                     "details why sealed".split())
SIZE_MAX, FILE_BYTES_MAX, findings, notes = 2 ** 53 - 1, 256 << 20, [], []

def find(*finding):
    findings.append(finding)

def sha(*parts):
    return hashlib.sha256(b"".join(parts)).digest()

def unbase64(text):
    data = base64.b64decode(text, validate=True)
    if base64.b64encode(data).decode() != text:
        raise ValueError("base64 that is not canonical")
    return data

def read(*path):
    try:
        with open(os.path.join(*path), "rb") as file:
            return file.read(FILE_BYTES_MAX)
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
        return None

def parse_key(text):
    name, number, data = text.split("+", 2)
    data = unbase64(data)
    if len(data) != 33 or data[0] != 1 or sha(name.encode(), b"\n", data)[:4].hex() != number:
        raise ValueError("not an Ed25519 verifier key")
    return name, bytes.fromhex(number), Ed25519PublicKey.from_public_bytes(data[1:])

class Checkpoint:
    def __init__(self, raw):
        body, blank, lines = raw.decode().rpartition("\n\n")
        if not blank or lines[-1:] != "\n" or re.search("[\x00-\x09\x0b-\x1f]", body + lines):
            raise ValueError("not a signed note")
        self.body, self.signatures = body + "\n", {}
        for line in lines[:-1].split("\n"):
            match = re.fullmatch("\u2014 ([^\\s+]+) (\\S+)", line)
            data = unbase64(match.group(2)) if match else b""
            if len(data) < 5 or (match.group(1), data[:4]) in self.signatures:
                raise ValueError("a signature line is malformed or there twice")
            self.signatures[match.group(1), data[:4]] = data[4:]
        self.origin, size, root = body.split("\n") if body.count("\n") == 2 else ("", "", "")
        self.root = unbase64(root)
        if not re.fullmatch("[^\\s+]+", self.origin) or len(self.root) != 32 \
                or not re.fullmatch("0|[1-9][0-9]{0,15}", size) or int(size) > SIZE_MAX:
            raise ValueError("its origin, size or root is malformed")
        self.size = int(size)

    def is_signed(self, keys):
        ours = [key for key in keys if key[0] == self.origin and key[:2] in self.signatures]
        try:
            for name, number, key in ours:
                key.verify(self.signatures[name, number], self.body.encode())
        except InvalidSignature:
            return False
        return bool(ours)

def checkpoints_in(raw):
    if raw[:1] != b"{":
        return [Checkpoint(raw)]
    values = [json.loads(it) for it in raw.splitlines() if b'"checkpoint":' in it]
    return [Checkpoint(text.encode()) for text in dict.fromkeys(it["checkpoint"] for it in values)]

def root_of(items):
    """The Merkle tree hash over whole subtrees of one size; the last may be less."""
    if len(items) == 1:
        return items[0]
    half = 1 << (len(items) - 1).bit_length() - 1
    return sha(b"\1", root_of(items[:half]), root_of(items[half:]))

def bundle_entries(raw, count):
    entries, at = [], 0
    while len(entries) < count and \
            (end := at + 2 + int.from_bytes(raw[at:at + 2], "big")) <= len(raw):
        entries.append(raw[at + 2:end])
        at = end
    return entries, at

class Tree:
    def __init__(self, tlog, origin, size, marks):
        self.tlog, self.origin, self.marks = tlog, origin, marks
        self.rows, self.roots, self.hashes, self.due, self.ids = [[]], {0: sha()}, [], {}, {}
        self.seen = {"checkpoint", "keys"}
        for at in range((size + 255) // 256):
            self.bundle(at, min(256, size - at * 256))
        for level, row in enumerate(self.rows):
            if row:
                self.compare(level, size // 256 ** (level + 1), row)
        for place, _, names in os.walk(tlog):
            paths = {os.path.relpath(os.path.join(place, it), tlog) for it in names} - self.seen
            notes.extend("%s is not covered by this tree" % it for it in sorted(paths))

    def load(self, level, at, width):
        """The narrowest file that holds `width` of a tile; all that there are must agree."""
        index, name, rest = at * 256 ** (1 + (level or 0)), "%03d" % (at % 1000), at // 1000
        while rest:
            name, rest = "x%03d/%s" % (rest % 1000, name), rest // 1000
        base = "tile/%s/%s" % ("entries" if level is None else level, name)
        files = {it: "%s.p/%d" % (base, it) if it < 256 else base for it in range(1, 257)}
        data = {it: raw for it in files if (raw := read(self.tlog, files[it])) is not None}
        self.seen.update(files[it] for it in data)
        best = min((it for it in data if it >= width), default=None)
        if best is None:
            find("TRUNCATED", index, "%s is missing" % base)
        for it, raw in data.items() if best else ():
            entries, end = bundle_entries(raw, it) if level is None else ([0] * it, 32 * it)
            same = min(len(raw), len(data[best]))
            if len(entries) < it or len(raw) < end:
                find("TRUNCATED", index, "%s is cut short" % files[it])
            elif len(raw) > end or raw[:same] != data[best][:same]:
                find("LEAF" if level is None else "TILE", index,
                     "%s is too long or differs from %s" % (files[it], files[best]))
        return data.get(best, b"")

    def bundle(self, at, width):
        entries = bundle_entries(self.load(None, at, width), width)[0]
        for slot, raw in enumerate(entries + [None] * (width - len(entries))):
            raw is None or self.entry(at * 256 + slot, raw)
            self.hashes.append(sha(b"\0", raw or b""))
            self.rows[0].append(self.hashes[-1])
            if len(self.hashes) in self.marks:
                root = []
                for row in self.rows:
                    root = [root_of(row + root)] if row + root else []
                self.roots[len(self.hashes)] = root[0]
            level = 0
            while len(self.rows[level]) == 256:
                self.compare(level, len(self.hashes) // 256 ** (level + 1) - 1, self.rows[level])
                self.rows += [[]] if level + 1 == len(self.rows) else []
                self.rows[level + 1].append(root_of(self.rows[level]))
                self.rows[level], level = [], level + 1

    def compare(self, level, at, row):
        raw = self.load(level, at, len(row))
        for slot in (it for it, hash_ in enumerate(row) if raw[32 * it:32 * it + 32] != hash_):
            find("TILE" if level else "LEAF", (at * 256 + slot) * 256 ** level,
                 "it differs from hash %d of tile %d at level %d" % (slot, at, level))

    def entry(self, index, raw):
        try:
            # RFC 8785, for names in ASCII and integers: int() refuses all else.
            leaf = json.loads(raw.decode(), parse_float=int, parse_constant=int,
                              parse_int=lambda it: int(it if abs(int(it)) <= 2 ** 53 else ""))
            text = json.dumps(leaf, ensure_ascii=False, sort_keys=True, separators=(",", ":"))
            if text.encode() != raw or b"null" in re.sub(b'"[^"]*"', b"", raw):
                raise ValueError("other bytes than the canonical ones")
        except (ValueError, RecursionError) as error:
            return find("NOT_CANONICAL", index, str(error))
        if not isinstance(leaf, dict) or not NEEDED <= set(leaf) <= KNOWN or leaf["v"] != 1 \
                or type(leaf["seq"]) is not int or leaf["log"] != self.origin:
            return find("LEAF", index, "the entry does not follow the schema of this chain")
        producer, seq, name = str(leaf["producer"]), leaf["seq"], str(leaf["id"])
        due = self.due.get(producer, 1)
        if seq != due:
            find("GAP" if seq > due else "DUPLICATE", index,
                 "the entry is number %d of %s where %d was due" % (seq, producer, due))
        self.due[producer] = max(due, seq + 1)
        if self.ids.setdefault(name, index) != index:
            find("DUPLICATE", index, "the entry has the id of entry %d" % self.ids[name])

def check_export(path, tree):
    lines = [json.loads(line) for line in read(path).splitlines()]
    entries, end = lines[:-1], lines[-1]
    if "leaf" in end or end.get("entries", len(entries)) != len(entries):
        find("TRUNCATED", None, "%s: lines are missing" % path)
    for at, value in enumerate(entries):
        index = value.get("index", -1)
        hash_ = sha(b"\0", value.get("leaf", "").encode())
        if tree.hashes[index:index + 1] != [hash_] or value["leaf_hash"] != hash_.hex():
            find("LEAF", index, "%s: line %d is not this entry" % (path, at + 1))
        if at and index != entries[at - 1].get("index", -1) + 1 and not end.get("filtered"):
            find("GAP", index, "%s: line %d does not follow the one before" % (path, at + 1))

def run(folder, keys, kept, exports):
    tlog = os.path.join(folder, "tlog")
    tlog = tlog if os.path.isdir(tlog) else folder
    signer, raw = read(folder, "audit/signer.json") or b"", read(tlog, "checkpoint")
    try:
        marks = [("audit/signer.json", mark) for mark in checkpoints_in(signer or b"{}")]
        marks += [(it, mark) for it in kept for mark in kept[it]]
        head = Checkpoint(raw) if raw is not None else None
        if head is None:
            return find("ROLLBACK", 0, "the checkpoint is missing") if marks else None
        ring = (read(tlog, "keys") or b"").decode().split("\n")
        ends = [it.split(" ") for it in ring[1:-1]]
        signing = [parse_key(it[2]) for it in ends]
        if ring[0] != "llm-proxy/audit/keyring/v1" or ring[-1] or not ends \
                or [it[0] for it in ends] + ["-"] != ["0"] + [it[1] for it in ends]:
            raise ValueError("the keyring is malformed or missing")
    except (ValueError, IndexError) as error:
        return find("SIGNATURE", None, "a checkpoint or the keyring: %s" % error)
    marks.append(("checkpoint", head))
    own = [mark for path, mark in marks if path in ("audit/signer.json", "checkpoint")]
    head = max(own, key=lambda mark: mark.size)
    tree = Tree(tlog, head.origin, head.size, {mark.size for _, mark in marks})
    for path, mark in marks:
        if mark.origin != head.origin or not mark.is_signed(keys or signing) \
                or path == "checkpoint" and not mark.is_signed(signing[-1:]):
            find("SIGNATURE", None, "%s is not signed by the key of this chain" % path)
        if mark.size > head.size:
            find("ROLLBACK", head.size, "%s is of %d entries" % (path, mark.size))
        elif tree.roots[mark.size] != mark.root:
            find("FORK", None, "%s, of %d entries, has another root" % (path, mark.size))
    print("%d entries of %s, root %s" % (head.size, head.origin, head.root.hex()))
    return [check_export(path, tree) for path in exports], keys and head.size

def main():
    parser = argparse.ArgumentParser(usage=__doc__.split("\n\n")[1])
    parser.error = lambda text: (sys.stderr.write("error: %s\n" % text), sys.exit(3))
    parser.add_argument("dir")
    for name in ("--key", "--checkpoint", "--export"):
        parser.add_argument(name, action="append", default=[])
    args = parser.parse_args()
    try:
        keys = [parse_key(key) for it in args.key
                for key in (read(it) or it.encode()).decode().split() or [""]]
        marks = {it: checkpoints_in(read(it)) for it in args.checkpoint + args.export}
    except (ValueError, KeyError, TypeError) as error:
        parser.error("a key or a file cannot be used: %s" % error)
    verified = (run(args.dir, keys, marks, args.export) or (None, 0))[1]
    for kind, index, text in findings[:1000]:
        print("%s%s: %s" % (kind, "" if index is None else " at entry %d" % index, text))
    print("".join("note: " + ascii(text)[1:-1] + "\n" for text in notes), end="")
    print("TAMPERED: %d findings" % len(findings) if findings else "VERIFIED" if verified else
          "NOTHING TO VERIFY, or self-consistent only: no key was given")
    sys.exit(1 if findings else 0 if verified else 2)

if __name__ == "__main__":
    main()
