"""Slow clients and greedy ones, on connections to a real server."""

import time
from collections.abc import Iterator
from itertools import repeat
from pathlib import Path

import pytest

from service.http.protocol import MAX_HEAD_BYTES, JoinedWrites
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


def test_a_head_without_a_body_leaves_at_the_latest_when_the_connection_is_closed() -> None:
    wire = Wire()
    transport = JoinedWrites(wire)
    transport.write(ANSWER_HEAD)
    transport.close()
    assert (wire.sent, wire.closed) == ([ANSWER_HEAD], True)
