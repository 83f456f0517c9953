"""Serves as a peer in tests: answers in the plain form, hangs, refuses or ends, as PEER_MODE says."""

import json
import os
import subprocess
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from time import sleep

from loadtest.peers.servers.assignment import HOST, read_assignment


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["content-length"]))
        body = json.dumps({"answer": os.environ.get("PEER_ANSWER", "")}).encode()
        self.send_response(200)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


if __name__ == "__main__":
    mode = os.environ["PEER_MODE"]
    assignment = read_assignment()
    if mode == "ends":
        sys.exit("ImportError: no such library")
    if mode == "hangs":  # with a daemon that leaves its parent, as Ray's do
        sleeper = [sys.executable, "-c", "import time; time.sleep(600)", os.environ["PEER_SIGN"]]
        subprocess.run(["sh", "-c", '"$@" & ', "sh", *sleeper], check=True)
        sleep(600)
    ThreadingHTTPServer((HOST, assignment.port), Handler).serve_forever()
