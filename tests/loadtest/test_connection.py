"""The clients, against a server that answers as a test wants."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from loadtest.bench.measurements import checked
from loadtest.bench.openloop import open_loop, open_loop_at
from loadtest.connection import Connection, closed_loop, get, post
from loadtest.process import LoadTestError


class Handler(BaseHTTPRequestHandler):
    """Says back what it was sent; closes the connection where the path is /close."""

    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        if self.path == "/close":
            self.close_connection = True
            return
        self.send_response(422 if self.path == "/refuse" else 200)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_GET = do_POST

    def log_message(self, *_: Any) -> None:
        """Nothing."""


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with serving() as url:
        yield url


@contextmanager
def serving() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def test_an_answer_is_read_whole_however_long(url: str) -> None:
    text = "é" * 300_000
    with Connection(url) as connection:
        for _ in range(2):  # kept alive
            answer = connection.ask(post("/", {"text": text}))
            assert (answer.status, answer.json()) == (200, {"text": text})
            assert answer.milliseconds > 0


def test_a_refused_request_is_no_measurement(url: str) -> None:
    with Connection(url) as connection, pytest.raises(LoadTestError, match=r'answered 422: \{"a": 1\}'):
        checked(connection.ask(post("/refuse", {"a": 1})))


def test_a_closed_loop_keeps_every_connection_busy(url: str) -> None:
    requests = [post("/", {"number": number}) for number in range(3)]
    answers = closed_loop(url, requests, concurrency=3, seconds=0.3)
    assert {answer.json()["number"] for answer in answers} == {0, 1, 2}


@pytest.mark.parametrize("polls", [False, True])
def test_a_request_is_sent_when_it_is_due_and_its_time_counts_from_then(url: str, polls: bool) -> None:
    requests = [post("/", {"number": number}) for number in range(3)]
    due_s = [-1.0, 0.0, 0.05]  # the first is a second late
    arrivals = open_loop_at(url, requests, due_s, patience_s=10, polls=polls)
    times = {answer.json()["number"]: answer.milliseconds for answer in arrivals.answers}
    assert set(times) == {0, 1, 2}
    assert times[0] >= 1000
    assert (arrivals.sent, arrivals.lost, arrivals.unsent) == (3, 0, 0)


def test_an_open_loop_sends_at_its_rate_and_waits_for_the_rest(url: str) -> None:
    arrivals = open_loop(url, [post("/", {})], per_second=100, seconds=0.5, patience_s=10)
    assert len(arrivals.answers) == arrivals.sent
    assert arrivals.sent + arrivals.unsent == pytest.approx(50, abs=2)
    assert arrivals.lost == 0


def test_connections_that_are_closed_without_an_answer_are_counted(url: str) -> None:
    arrivals = open_loop(url, [post("/close", {})], per_second=50, seconds=0.2, patience_s=10)
    assert arrivals.lost == arrivals.sent > 0


def test_a_service_that_is_gone_is_told() -> None:
    with serving() as short_lived:
        pass
    with pytest.raises(OSError, match="refused"):
        Connection(short_lived)
    assert open_loop(short_lived, [get("/")], per_second=50, seconds=0.1, patience_s=1).sent == 0
