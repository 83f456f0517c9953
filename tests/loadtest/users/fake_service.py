"""A service that answers at once, refuses, or stalls, with a table of routes like ours."""

import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

POST = {
    "x-task": "ask",
    "responses": {"422": {"content": {"application/problem+json": {}}}},
    "requestBody": {"content": {"application/json": {"examples": {"one": {"value": {"text": "Who?"}}}}}},
}
TABLE = {
    "/openapi.json": {"paths": {"/ask": {"post": POST}, "/info": {"get": {}}}},
    "/info": {"bundles": [{"task": "ask", "name": "asker", "directory": "ask"}]},
}
TIMING = "queue;dur=0.041, tokenization;dur=0.345, inference;dur=2.5, total;dur=3.1"


@dataclass
class FakeService:
    """`stall`: from the first request on, the seconds between which no request is answered."""

    status: int = 200
    stall: tuple[float, float] = (0.0, 0.0)
    replicas: tuple[str, ...] = ()
    url: str = ""
    bodies: list[dict[str, object]] = field(default_factory=list)
    began: float | None = None
    lock: threading.Lock = field(default_factory=threading.Lock)


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    fake: FakeService

    def do_GET(self) -> None:
        self._answer(200, TABLE[self.path])

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        fake = self.fake
        with fake.lock:
            fake.began = fake.began or time.monotonic()
            elapsed_s = time.monotonic() - fake.began
            fake.bodies.append(body)
            replica = fake.replicas[len(fake.bodies) % len(fake.replicas)] if fake.replicas else ""
        begin, end = fake.stall
        if begin <= elapsed_s < end:
            time.sleep(end - elapsed_s)
        headers = {"server-timing": TIMING} | ({"x-replica": replica} if replica else {})
        self._answer(fake.status, {} if fake.status == 200 else {"code": "queue_full"}, headers)

    def _answer(self, status: int, content: object, headers: dict[str, str] | None = None) -> None:
        body = json.dumps(content).encode()
        self.send_response(status)
        for name, value in ({"content-length": str(len(body))} | (headers or {})).items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


class Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: object, client_address: object) -> None:
        """Say nothing of a client that has gone before its answer, as it does where the service stalls."""


@contextmanager
def serving(fake: FakeService) -> Iterator[FakeService]:
    """Until the block ends; sets the URL."""
    handler = type("FakeHandler", (Handler,), {"fake": fake})
    with Server(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        fake.url = f"http://127.0.0.1:{server.server_port}"
        try:
            yield fake
        finally:  # else a test that fails keeps this process from ending
            server.shutdown()
            thread.join()
