"""Slow clients and greedy ones, on connections to a real server."""

import json
import socket
import time
from collections.abc import Callable, Iterator
from itertools import repeat
from pathlib import Path

import pytest

from service.http.protocol import MAX_HEAD_BYTES, JoinedWrites
from service.routes import ROUTES
from tests.server import connect, head, post, response, serve, was_cut_off

HEALTH = head("GET", "/health/live")
BODY = b'{"question": "where?", "context": "in Paris"}'


@pytest.fixture(scope="module")
def url(bundles: Path) -> Iterator[str]:
    with serve(bundles, READ_TIMEOUT_SECONDS="1", MAX_BODY_BYTES="10000") as (_, url):
        yield url


def drip(pieces: Iterator[bytes], url: str, *, beginning: bytes, pause: float) -> bool:
    """Whether the server cut the connection off while we sent."""
    with connect(url) as connection:
        connection.sendall(beginning)
        end = time.monotonic() + 60
        for piece in pieces:
            time.sleep(pause)
            try:
                connection.sendall(piece)
            except (BrokenPipeError, ConnectionResetError):
                return True
            if time.monotonic() > end:
                return False
    return False


@pytest.mark.parametrize(
    "beginning",
    [
        b"",
        b"\r\n",
        b"POST /q",
        head("POST", "/qa", "content-type: application/json")[:-2],
        b"".join(post("/qa", BODY))[:-1],
        b"".join(post("/nowhere", BODY))[:-1],
    ],
    ids=["nothing", "an empty line", "half a line", "half a head", "half a body", "half a body to nowhere"],
)
def test_a_client_that_stalls_is_cut_off(url: str, beginning: bytes) -> None:
    with connect(url) as connection:
        connection.sendall(beginning)
        while not was_cut_off(connection):  # a refusal may come first, byte by byte
            pass


def test_a_head_that_trickles_in_is_cut_off(url: str) -> None:
    assert drip(repeat(b"x"), url, beginning=head("GET", "/health/live")[:-2] + b"x-slow: ", pause=0.05)


def test_a_body_that_trickles_in_is_cut_off(url: str) -> None:
    assert drip(repeat(b" "), url, beginning=post("/qa", b" " * 9_000)[0], pause=0.05)


def test_a_body_that_goes_on_after_its_refusal_is_cut_off(url: str) -> None:
    chunk = b"%x\r\n%s\r\n" % (1_000, b" " * 1_000)
    beginning = head("POST", "/qa", "content-type: application/json", "transfer-encoding: chunked")
    assert drip(repeat(chunk), url, beginning=beginning, pause=0)


def test_trailers_without_end_are_cut_off(url: str) -> None:
    beginning = head("POST", "/qa", "content-type: application/json", "transfer-encoding: chunked") + b"0\r\nx-t: "
    assert drip(repeat(b"x" * 1_000), url, beginning=beginning, pause=0)


def test_a_head_without_end_is_refused(url: str) -> None:
    assert drip(repeat(b"x" * 1_000), url, beginning=b"GET /health/live HTTP/1.1\r\nx-long: ", pause=0)


def test_a_head_that_is_too_long_is_told_so(url: str) -> None:
    with connect(url) as connection:
        connection.sendall(b"GET /health/live HTTP/1.1\r\nx-long: ")
        time.sleep(0.2)  # so that the server reads twice
        connection.sendall(b"x" * (MAX_HEAD_BYTES + 1))
        answer, content = response(connection)
        assert (answer.status, content) == (400, b"The head of the request is too long.")
        assert was_cut_off(connection)


def test_an_answer_that_nobody_reads_is_given_up(url: str) -> None:
    with connect(url) as connection:
        asked = 3_000
        connection.sendall(head("GET", "/openapi.json") * asked)
        received = 0
        time.sleep(3)  # the server writes as much as the system takes, and then waits for us
        try:
            while data := connection.recv(1_000_000):
                received += data.count(b"HTTP/1.1 200")
        except ConnectionResetError:
            pass
        assert received < asked


def test_a_connection_between_two_requests_may_wait(url: str) -> None:
    with connect(url) as kept_alive, connect(url) as stalled:
        kept_alive.sendall(HEALTH)
        assert response(kept_alive)[0].status == 200
        assert was_cut_off(stalled)
        kept_alive.sendall(HEALTH)
        assert response(kept_alive)[0].status == 200


OFFERS = {
    "curl": ("connection: Upgrade, HTTP2-Settings", "upgrade: h2c", "http2-settings: AAMAAABkAAQAAP__"),
    "java": ("Connection: Upgrade, HTTP2-Settings", "HTTP2-Settings: AAEAAEAAAAIAAAAB", "Upgrade: h2c"),
    "websocket": ("Connection: keep-alive, Upgrade", "Upgrade: websocket", "Sec-WebSocket-Version: 13"),
    "several": ("connection: upgrade", "upgrade: TLS/1.0", "upgrade: h2c, websocket"),
}
CONTENTS = {
    "/qa": {"question": "where?", "context": "in Paris"},
    "/classify": {"text": "in Paris"},
    "/similarity": {"source": "in Paris", "targets": ["oslo"]},
    "/embed": {"inputs": "in Paris"},
    "/hf/question-answering": {"inputs": {"question": "where?", "context": "in Paris"}},
    "/hf/text-classification": {"inputs": "in Paris"},
    "/hf/sentence-similarity": {"inputs": {"source_sentence": "in Paris", "sentences": ["oslo"]}},
    "/hf/feature-extraction": {"inputs": "in Paris"},
    "/v1/embeddings": {"input": "in Paris", "model": "any"},
    "/rerank": {"query": "where?", "documents": ["in Paris"]},
    "/v1/rerank": {"query": "where?", "documents": ["in Paris"], "model": "any"},
    "/v2/rerank": {"query": "where?", "documents": ["in Paris"], "model": "any"},
    "/entities": {"text": "in Paris"},
    "/hf/token-classification": {"inputs": "in Paris"},
}


def chunked(path: str, body: bytes, *fields: str) -> tuple[bytes, bytes]:
    beginning = head("POST", path, "content-type: application/json", "transfer-encoding: chunked", *fields)
    halves = body[: len(body) // 2], body[len(body) // 2 :]
    return beginning, b"".join(b"%x\r\n%s\r\n" % (len(half), half) for half in halves) + b"0\r\n\r\n"


def test_every_post_route_is_offered_an_upgrade_here() -> None:
    assert set(CONTENTS) == {row.path for row in ROUTES}


@pytest.mark.parametrize("pause", [None, 0.05], ids=["one segment", "two segments"])
@pytest.mark.parametrize("written", [post, chunked])
@pytest.mark.parametrize("offer", OFFERS)
@pytest.mark.parametrize("path", CONTENTS)
def test_an_offer_to_upgrade_is_passed_over_and_its_body_is_read(
    url: str, path: str, offer: str, written: Callable[..., tuple[bytes, bytes]], pause: float | None
) -> None:
    beginning, body = written(path, json.dumps(CONTENTS[path]).encode(), *OFFERS[offer])
    with connect(url) as connection:
        for _ in range(2):  # the connection stays open
            if pause is None:
                connection.sendall(beginning + body)
            else:
                connection.sendall(beginning)
                time.sleep(pause)
                connection.sendall(body)
            answer, content = response(connection)
            assert (answer.status, answer.version) == (200, 11), content


def test_a_head_with_an_offer_may_come_byte_by_byte(url: str) -> None:
    with connect(url) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for byte in b"".join(post("/qa", BODY, *OFFERS["curl"])):
            connection.sendall(bytes([byte]))
        assert response(connection)[0].status == 200


def test_requests_behind_an_offer_are_answered_in_order(url: str) -> None:
    offered = b"".join(post("/qa", BODY, *OFFERS["curl"]))
    with connect(url) as connection:
        connection.sendall(offered + HEALTH + offered + head("GET", "/health/live", *OFFERS["java"]))
        received = b""
        while received.count(b"HTTP/1.1 200") < 4 or not received.endswith(b"}"):
            received += connection.recv(65536)
        assert [b"Paris" in answer for answer in received.split(b"HTTP/1.1 200")[1:]] == [True, False, True, False]


def test_an_offer_keeps_what_its_head_says_beside_it(url: str) -> None:
    with connect(url) as connection:
        fields = ("connection: close, upgrade", "upgrade: h2c", "expect: 100-continue", "x-request-id: mine")
        beginning, body = post("/qa", BODY, *fields)
        connection.sendall(beginning)
        assert connection.recv(100).startswith(b"HTTP/1.1 100")
        connection.sendall(body)
        answer, _ = response(connection)
        assert (answer.status, answer.headers["connection"], answer.headers["x-request-id"]) == (200, "close", "mine")
        assert was_cut_off(connection)


def test_connect_is_refused(url: str) -> None:
    with connect(url) as connection:
        connection.sendall(b"CONNECT example.org:443 HTTP/1.1\r\nhost: example.org:443\r\n\r\n")
        assert response(connection)[0].status == 400


def test_the_log_names_no_library_for_an_offer(bundles: Path, tmp_path: Path) -> None:
    with serve(bundles, tmp_path / "log") as (_, url), connect(url) as connection:
        for offer in OFFERS.values():
            connection.sendall(b"".join(post("/qa", BODY, *offer)))
            response(connection)
    log = (tmp_path / "log").read_text().lower()
    assert "websocket" not in log
    assert "upgrade" not in log


def test_requests_that_are_sent_at_once_are_answered_in_order(url: str) -> None:
    with connect(url) as connection:
        connection.sendall(b"".join(post("/qa", BODY)) + HEALTH + b"".join(post("/qa", BODY)))
        received = b""
        while received.count(b"HTTP/1.1 200") < 3 or not received.endswith(b"}"):
            received += connection.recv(65536)
        assert [b"Paris" in answer for answer in received.split(b"HTTP/1.1 200")[1:]] == [True, False, True]


class Wire:
    """Writes as they reach the transport."""

    def __init__(self) -> None:
        self.sent: list[bytes] = []
        self.closed = False

    def write(self, data: bytes) -> None:
        self.sent.append(data)

    def close(self) -> None:
        self.closed = True

    def is_closing(self) -> bool:
        return self.closed

    def pause_reading(self) -> None:
        self.sent.append(b"pause")

    def resume_reading(self) -> None:
        self.sent.append(b"resume")


ANSWER_HEAD, ANSWER_BODY = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n", b"{}"


@pytest.mark.parametrize(
    ("writes", "sent"),
    [
        ([ANSWER_HEAD, ANSWER_BODY, ANSWER_HEAD, ANSWER_BODY], [ANSWER_HEAD + ANSWER_BODY, ANSWER_HEAD + ANSWER_BODY]),
        ([ANSWER_HEAD, ANSWER_BODY, b"more"], [ANSWER_HEAD + ANSWER_BODY, b"more"]),  # a body in parts
        (
            [b"HTTP/1.1 100 Continue\r\n\r\n", ANSWER_HEAD, ANSWER_BODY],
            [b"HTTP/1.1 100 Continue\r\n\r\n", ANSWER_HEAD + ANSWER_BODY],
        ),
        ([b"HTTP/1.1 400 Bad Request\r\n\r\ntext"], [b"HTTP/1.1 400 Bad Request\r\n\r\ntext"]),
    ],
)
def test_the_head_of_an_answer_leaves_with_its_body(writes: list[bytes], sent: list[bytes]) -> None:
    wire = Wire()
    transport = JoinedWrites(wire)
    for data in writes:
        transport.write(data)
    assert wire.sent == sent


def test_reading_goes_on_once_uvicorn_and_the_protocol_want_it() -> None:
    wire = Wire()
    transport = JoinedWrites(wire)
    transport.pause_reading()
    transport.hold_reading(True)
    transport.resume_reading()
    assert wire.sent == [b"pause"]
    transport.hold_reading(False)
    assert wire.sent == [b"pause", b"resume"]
    wire.close()
    transport.hold_reading(True)
    assert wire.sent == [b"pause", b"resume"]


def test_a_head_without_a_body_leaves_at_the_latest_when_the_connection_is_closed() -> None:
    wire = Wire()
    transport = JoinedWrites(wire)
    transport.write(ANSWER_HEAD)
    transport.close()
    assert (wire.sent, wire.closed) == ([ANSWER_HEAD], True)
