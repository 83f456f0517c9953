"""A load whose requests end in every way that there is, against a server that does what its path says."""

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from time import sleep

import pytest

from loadtest.connection import get
from loadtest.torture.load import Load
from loadtest.torture.questions import Question, untimed
from tests.service.engine.jobs import WAIT_S

RIGHT = b'{"answers":[]}'
TIMED = b'{"answers":[],"timings_ms":{"queue":0.1}}'


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    gate = threading.Event()

    def do_GET(self) -> None:
        if self.path == "/close":
            self.close_connection = True
            return
        if self.path == "/hang":
            self.gate.wait(WAIT_S)
        status = {"/full": 503, "/failed": 500}.get(self.path, 200)
        body = {"/full": b'{"code":"queue_full"}', "/other": b'{"answers":[1]}'}.get(self.path, RIGHT)
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        Handler.gate.set()
        server.shutdown()


def load_of(url: str, path: str, *, allowed: frozenset[int] = frozenset(), per_second: float | None = None) -> Load:
    question = Question(path, get(path), answer=RIGHT)
    return Load(url, [question], connections=2, seed=0, allowed=allowed, per_second=per_second)


@pytest.mark.parametrize(
    ("path", "count"),
    [("/right", "right"), ("/full", "refused"), ("/close", "closed"), ("/other", "wrong"), ("/failed", "wrong")],
)
def test_each_end_of_a_request_has_its_count(url: str, path: str, count: str) -> None:
    with load_of(url, path) as load:
        while not load.tally.sent:
            sleep(0.001)
    tally = load.tally
    counts = {name: getattr(tally, name) for name in ("right", "closed", "wrong", "hung")}
    counts["refused"] = tally.refused.total()
    assert counts == dict.fromkeys(counts, 0) | {count: tally.sent}
    assert tally.missing == 0


def test_a_status_that_the_fault_explains_is_a_refusal(url: str) -> None:
    with load_of(url, "/failed", allowed=frozenset({500})) as load:
        while not load.tally.sent:
            sleep(0.001)
    assert (load.tally.wrong, load.tally.refused.total()) == (0, load.tally.sent)
    assert load.tally.of_tasks == {500: load.tally.sent}


def test_a_request_without_an_answer_hangs(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("loadtest.torture.load.PATIENCE_S", 0.1)
    with load_of(url, "/hang") as load:
        while not load.tally.hung:
            sleep(0.001)
    assert load.tally.hung == load.tally.sent


def test_nothing_is_sent_where_nobody_listens() -> None:
    with load_of("http://127.0.0.1:9", "/right") as load:
        while not load.tally.unreached:
            sleep(0.001)
    assert load.tally.sent == 0


def test_a_rate_is_kept(url: str) -> None:
    with load_of(url, "/right", per_second=1e-3) as load:
        while not load.tally.right:
            sleep(0.001)
    assert load.tally.sent == 1  # the next is due after a thousand seconds


def test_timings_and_ids_of_requests_are_left_out() -> None:
    assert untimed(TIMED) == b'{"answers":[],}'
    assert untimed(b'{"id":"3f","results":[{"score":1}]}') == b'{"results":[{"score":1}]}'
