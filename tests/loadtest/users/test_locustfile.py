"""In processes of their own: Locust patches the standard library when it is imported."""

import csv
import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from tests.server import ROOT

READ_STAGES = """
from loadtest.users.locustfile import stages
assert dict(stages("queue;dur=0.041, tokenization;dur=0.345")) == {"queue": 0.041, "tokenization": 0.345}
"""


POST = {
    "x-task": "ask",
    "responses": {"422": {"content": {"application/problem+json": {}}}},
    "requestBody": {"content": {"application/json": {"examples": {"one": {"value": {"text": "Who?"}}}}}},
}
TABLE = {
    "/openapi.json": {"paths": {"/ask": {"post": POST}, "/info": {"get": {}}}},
    "/info": {"bundles": [{"task": "ask", "name": "asker", "directory": "ask"}]},
}


class Full(BaseHTTPRequestHandler):
    """A service that has no place in its queue."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self._answer(200, TABLE[self.path])

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["content-length"]))
        self._answer(503, {"code": "queue_full"})

    def _answer(self, status: int, content: object) -> None:
        body = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def full_url() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Full) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def test_a_server_timing_header_is_read() -> None:
    child = subprocess.run([sys.executable, "-c", READ_STAGES], capture_output=True, text=True, check=False)
    assert child.returncode == 0, child.stderr


def test_refusals_are_counted_as_such_and_fail_the_run(full_url: str, tmp_path: Path) -> None:
    command = [
        sys.executable,
        "-m",
        "locust",
        "-f",
        str(ROOT / "loadtest" / "users" / "locustfile.py"),
        "--headless",
        "-t",
        "2s",
    ]
    child = subprocess.run([*command, "--host", full_url, "--csv", str(tmp_path / "locust")], check=False)
    assert child.returncode == 1
    with (tmp_path / "locust_failures.csv").open(newline="") as file:
        [failure] = csv.DictReader(file)
    assert (failure["Name"], failure["Error"].count("refused: 503 queue_full")) == ("/ask", 1)
