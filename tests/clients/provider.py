"""A provider of its own make, standard library only: the judge that shares no code with the proxy.

    python provider.py PORT_FILE

Listens on a free loopback port, writes it to PORT_FILE, speaks chat completions (plain and
streamed) and keeps its own ledger at /ledger: one line for each request received, with what it
answered. The last user message says what to do: ok, stream, cut, error 500, error 400, endless.
"""

import json
import os
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

LEDGER = []
LOCK = threading.Lock()


class Provider(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def do_GET(self):
        with LOCK:
            self.whole(200, LEDGER)

    def do_POST(self):
        request = json.loads(self.rfile.read(int(self.headers["content-length"])))
        what, _, number = request["messages"][-1]["content"].partition(" ")
        words = 3 + len(json.dumps(request)) % 7
        usage = {"prompt_tokens": len(what) + 11, "completion_tokens": words}
        usage["total_tokens"] = usage["prompt_tokens"] + words
        line = {"request_id": self.headers["x-request-id"], "what": what, "usage": None}
        with LOCK:
            LEDGER.append(line)
        if what == "error":
            return self.whole(int(number), {"error": {"message": "as told", "type": "told"}})
        answer = {"id": "x", "object": "chat.completion", "model": request["model"]}
        if what == "ok":
            line["usage"] = usage
            message = {"role": "assistant", "content": "word " * words}
            choice = {"index": 0, "message": message, "finish_reason": "stop"}
            return self.whole(200, {**answer, "choices": [choice], "usage": usage})
        self.send_response(200)
        self.send_header("content-type", "text/event-stream")
        self.send_header("transfer-encoding", "chunked")
        self.end_headers()
        answer["object"] = "chat.completion.chunk"
        count = 100_000 if what == "endless" else words
        try:
            for index in range(count):
                if what == "cut" and index == 2:
                    self.close_connection = True
                    return None
                choice = {"index": 0, "delta": {"content": "word "}, "finish_reason": None}
                self.event({**answer, "choices": [choice]})
            line["usage"] = usage
            self.event({**answer, "choices": [], "usage": usage})
            self.chunk(b"data: [DONE]\n\n")
            self.chunk(b"")
        except OSError:
            self.close_connection = True
        return None

    def event(self, value):
        self.chunk(b"data: " + json.dumps(value).encode() + b"\n\n")

    def chunk(self, data):
        self.wfile.write(b"%x\r\n%b\r\n" % (len(data), data))

    def whole(self, status, value):
        body = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


if __name__ == "__main__":
    server = ThreadingHTTPServer(("127.0.0.1", 0), Provider)
    server.daemon_threads = True
    with open(sys.argv[1] + ".tmp", "w", encoding="utf-8") as file:
        file.write(str(server.server_address[1]))
    os.rename(sys.argv[1] + ".tmp", sys.argv[1])
    server.serve_forever()
