"""Joins three ledgers: what was sent, what the provider received, what the records hold.

    LLM_PROXY=target/debug/llm-proxy [SEED=1] [REQUESTS=300] python ledger.py

Starts provider.py and `llm-proxy server` in a fresh data directory, sends a seeded mix of
successes, refusals, client aborts, cut streams and provider errors, then reads the records with
`llm-proxy logs search -o json` and joins all by request id: each exactly once, usage equal.
Prints `N passed, N failed`. Standard library only.
"""

import http.client
import json
import os
import random
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request

HERE = os.path.dirname(os.path.abspath(__file__))
BINARY = os.environ.get("LLM_PROXY", "llm-proxy")
SEED = int(os.environ.get("SEED", "1"))
REQUESTS = int(os.environ.get("REQUESTS", "300"))
CLIENTS = 8
WAIT_SECONDS = 30

# what is asked → (weight, status, outcome, reaches the provider)
KINDS = {
    "ok": (30, 200, "ok", True),
    "stream": (25, 200, "ok", True),
    "cut": (10, 200, "upstream_error", True),
    "endless": (8, 200, "client_closed", True),
    "error 500": (8, 500, "upstream_error", True),
    "error 400": (5, 400, "client_error", True),
    "unknown token": (5, 401, "denied", False),
    "no token": (4, 401, "denied", False),
    "model": (5, 403, "denied", False),
}


def wait_for(what, condition):
    deadline = time.monotonic() + WAIT_SECONDS
    while time.monotonic() < deadline:
        value = condition()
        if value:
            return value
        time.sleep(0.02)
    raise SystemExit(f"{what} did not happen within {WAIT_SECONDS} s")


def read_file(path):
    try:
        with open(path, encoding="utf-8") as file:
            return file.read().strip()
    except FileNotFoundError:
        return None


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def call(url, key=None, body=None):
    headers = {"content-type": "application/json"}
    if key:
        headers["authorization"] = "Bearer " + key
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data=data, headers=headers)
    with urllib.request.urlopen(request, timeout=10) as response:
        return json.load(response)


def is_up(url):
    try:
        return call(url + "/health")
    except OSError:
        return None


class Sender:
    """Sends one request and says how it ended for the client."""

    def __init__(self, port, tokens):
        self.port, self.tokens = port, tokens

    def send(self, request_id, kind):
        streamed = kind in ("stream", "cut", "endless")
        content = kind if KINDS[kind][3] else "ok"
        body = {"model": "gpt-4o", "messages": [{"role": "user", "content": content}]}
        if streamed:
            body.update(stream=True, stream_options={"include_usage": True})
        headers = {"content-type": "application/json", "x-request-id": request_id}
        token = self.tokens.get(kind, self.tokens["normal"])
        if token:
            headers["authorization"] = "Bearer " + token
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        try:
            connection.request("POST", "/v1/chat/completions", json.dumps(body), headers)
            response = connection.getresponse()
            if kind == "endless":
                response.read(200)
                return response.status, False
            try:
                response.read()
                return response.status, True
            except http.client.IncompleteRead:
                return response.status, False
        finally:
            connection.close()


def send_all(sender, plan):
    seen, lock, queue = {}, threading.Lock(), list(plan)

    def work():
        while True:
            with lock:
                if not queue:
                    return
                request_id, kind = queue.pop()
            try:
                result = sender.send(request_id, kind)
            except OSError as error:
                result = (repr(error), False)
            with lock:
                seen[request_id] = result

    threads = [threading.Thread(target=work) for _ in range(CLIENTS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return seen


def records_of(data_dir, prefix):
    command = [BINARY, "logs", "search", "--data-dir", data_dir, "--stream", "record"]
    command += ["--limit", str(REQUESTS * 4), "-o", "json"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    text = done.stdout.strip()
    try:
        whole = json.loads(text)
        items = whole if isinstance(whole, list) else whole.get("items", [whole])
    except json.JSONDecodeError:
        items = [json.loads(line) for line in text.splitlines()]
    return [item for item in items if str(item.get("request_id", "")).startswith(prefix)]


def join(plan, seen, received, records):
    """Every disagreement, by request id; absent where all agree."""
    by_id, provider = {}, {}
    for record in records:
        by_id.setdefault(record["request_id"], []).append(record)
    for line in received:
        provider.setdefault(line["request_id"], []).append(line)
    planned = {request_id for request_id, _ in plan}
    wrong = {id: "nobody sent it" for id in (set(by_id) | set(provider)) - planned}
    for request_id, kind in plan:
        _, status, outcome, reaches = KINDS[kind]
        mine, lines = by_id.get(request_id, []), provider.get(request_id, [])
        problem = None
        whole = outcome not in ("upstream_error", "client_closed") or status >= 400
        if seen[request_id] != (status, whole):
            problem = f"the client saw {seen[request_id]}"
        elif len(mine) != 1:
            problem = f"{len(mine)} records"
        elif len(lines) != int(reaches):
            problem = f"the provider received it {len(lines)} times"
        elif (mine[0].get("status_code"), mine[0].get("outcome")) != (status, outcome):
            problem = f"recorded as {mine[0].get('status_code')} {mine[0].get('outcome')}"
        elif whole and reaches and lines[0]["usage"]:
            names = ("prompt_tokens", "input_tokens"), ("completion_tokens", "output_tokens")
            names += (("total_tokens", "total_tokens"),)
            for theirs, ours in names:
                if lines[0]["usage"][theirs] != mine[0].get(ours):
                    problem = f"{ours}: {mine[0].get(ours)}, not {lines[0]['usage'][theirs]}"
        elif not whole and mine[0].get("partial") is not True:
            problem = "not marked partial"
        if problem:
            wrong[request_id] = f"{kind}: {problem}"
    return wrong


def command(environment, *words, stdin=None):
    """Runs `llm-proxy` on the data directory, as an operator without a management key."""
    environment = {k: v for k, v in environment.items() if k != "MANAGEMENT_TOKEN"}
    line = [BINARY, *words, "-o", "json"]
    done = subprocess.run(line, env=environment, input=stdin, capture_output=True, text=True)
    if done.returncode != 0:
        raise SystemExit(f"{' '.join(words)} ended with {done.returncode}: {done.stderr}")
    return json.loads(done.stdout)


def set_up(environment):
    """Makes the project and its token while no server runs."""
    words = ("project", "create", "ledger", "--api-key-stdin")
    project = command(environment, *words, stdin="provider-key-1\n")
    return command(environment, "token", "create", "--project", project["id"], "--minutes", "60")


def run(directory, processes):
    port_file = os.path.join(directory, "provider-port")
    provider = [sys.executable, os.path.join(HERE, "provider.py"), port_file]
    processes.append(subprocess.Popen(provider))
    provider_url = "http://127.0.0.1:" + wait_for("provider", lambda: read_file(port_file))
    config = os.path.join(directory, "providers.yaml")
    with open(config, "w", encoding="utf-8") as file:
        file.write(
            "default_api: openai\napis:\n  openai:\n    kind: openai\n"
            f"    base_url: {provider_url}\n"
            "    allowed_endpoints: [/v1/chat/completions]\n    allowed_methods: [POST]\n"
        )
    port, key = free_port(), "mk-" + "k" * 43
    data_dir = os.path.join(directory, "data")
    environment = {
        **os.environ,
        "LISTEN_ADDR": f"127.0.0.1:{port}",
        "DATA_DIR": data_dir,
        "API_CONFIG_PATH": config,
        "MANAGEMENT_TOKEN": key,
        "LOG_FILE": os.path.join(directory, "stdout.log"),
    }
    token = set_up(environment)
    server = subprocess.Popen([BINARY, "server"], env=environment)
    processes.append(server)
    url = f"http://127.0.0.1:{port}"
    wait_for("server", lambda: is_up(url))
    # What was made with no server is there, for the command line and over HTTP.
    listed = command(environment, "project", "list")["items"]
    assert [item["id"] for item in listed] == [token["project_id"]], listed
    limited = {"project_id": token["project_id"], "duration_minutes": 60}
    limited["allowed_models"] = ["other-*"]
    tokens = {
        "normal": token["token"],
        "model": call(url + "/manage/tokens", key, limited)["token"],
        "unknown token": "sk-" + "A" * 43,
        "no token": None,
    }
    rng = random.Random(SEED)
    kinds = rng.choices(list(KINDS), [kind[0] for kind in KINDS.values()], k=REQUESTS)
    plan = [(f"ledger-{SEED}-{n:05}", kind) for n, kind in enumerate(kinds)]
    seen = send_all(Sender(port, tokens), plan)
    received = call(provider_url + "/ledger")
    wait_for("records", lambda: len(records_of(data_dir, f"ledger-{SEED}-")) >= len(plan))
    server.send_signal(signal.SIGTERM)
    if server.wait(WAIT_SECONDS) != 0:
        print(f"the server ended with status {server.returncode}")
    wrong = join(plan, seen, received, records_of(data_dir, f"ledger-{SEED}-"))
    for request_id, problem in sorted(wrong.items()):
        print(f"FAIL {request_id} {problem}")
    print(f"{len(plan) - len(wrong)} passed, {len(wrong)} failed")
    return 1 if wrong or server.returncode else 0


def main():
    processes = []
    with tempfile.TemporaryDirectory() as directory:
        try:
            return run(directory, processes)
        finally:
            for process in processes:
                process.kill()
                process.wait()


if __name__ == "__main__":
    sys.exit(main())
