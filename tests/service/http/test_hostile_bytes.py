"""Bytes that no client would send, on real sockets: each gets a documented status or a clean close, and leaves nothing.

`make torture` tries many more.
"""

import gzip
import os
import re
import socket
import struct
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from operator import gt
from pathlib import Path
from random import Random
from time import monotonic, sleep

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from loadtest.process import resident_mb
from tests.server import connect, head, post, response, serve, was_cut_off
from tests.torture import LONG, seed_of

STATUSES = {200, 400, 401, 404, 405, 413, 415, 422, 431, 503, 504}
BODY = b'{"question": "where?", "context": "in Paris"}'
WHOLE = b"".join(post("/qa", BODY))
CHUNKED = head("POST", "/qa", "content-type: application/json", "transfer-encoding: chunked")
MEGABYTE = 2**20

CORPUS = {
    "nothing": b"",
    "TLS": bytes.fromhex("16030100a5010000a10303") + bytes(160),
    "HTTP/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes(9),
    "HTTP/0.9": b"GET /\r\n",
    "HTTP/9.9": b"GET / HTTP/9.9\r\nhost: a\r\n\r\n",
    "no host": b"GET /health/live HTTP/1.1\r\n\r\n",
    "no path": b"GET  HTTP/1.1\r\nhost: a\r\n\r\n",
    "a path of 200 KB": head("GET", "/" + "a" * 200_000),
    "a path that is not UTF-8": b"GET /\xff\xfe%ff%00 HTTP/1.1\r\nhost: a\r\n\r\n",
    "an absolute address": head("GET", "http://elsewhere/health/live"),
    "CONNECT": head("CONNECT", "elsewhere:443"),
    "TRACE": head("TRACE", "/qa"),
    "a method of 100 KB": b"A" * 100_000 + b" / HTTP/1.1\r\nhost: a\r\n\r\n",
    "line ends of one byte": b"POST /qa HTTP/1.1\nhost: a\ncontent-length: 2\n\n{}",
    "a field without a colon": b"GET / HTTP/1.1\r\nhost a\r\n\r\n",
    "a field with NUL": b"GET / HTTP/1.1\r\nhost: a\0b\r\n\r\n",
    "a folded field": b"GET /health/live HTTP/1.1\r\nhost: a\r\n b\r\n\r\n",
    "100,000 fields": head("GET", "/health/live", *(f"x-{number}: y" for number in range(100_000))),
    "a negative length": head("POST", "/qa", "content-type: application/json", "content-length: -1"),
    "a length of 5,000 digits": head("POST", "/qa", "content-length: " + "9" * 5_000),
    "a length in hexadecimal": head("POST", "/qa", "content-length: 0x10") + BODY,
    "two lengths": head("POST", "/qa", "content-length: 2", "content-length: 45") + BODY,
    "a length and chunks": head("POST", "/qa", "content-length: 45", "transfer-encoding: chunked") + BODY,
    "chunks of an unknown kind": head("POST", "/qa", "transfer-encoding: gzip, chunked") + b"0\r\n\r\n",
    "a chunk of a negative size": CHUNKED + b"-1\r\n{}\r\n0\r\n\r\n",
    "a chunk of 2**64": CHUNKED + b"1" + b"0" * 16 + b"\r\n{}",
    "a chunk with an extension of 100 KB": CHUNKED + b"2;" + b"a" * 100_000 + b"\r\n{}\r\n0\r\n\r\n",
    "a chunk that is longer than it says": CHUNKED + b"2\r\n{}{}\r\n0\r\n\r\n",
    "half a body": WHOLE[:-10],
    "requests in a pipeline": WHOLE * 50,
    "rubbish behind a request": WHOLE + b"\0rubbish\r\n\r\n",
    "an upgrade": head("GET", "/qa", "connection: upgrade", "upgrade: websocket", "sec-websocket-key: x"),
    "an upgrade to HTTP/2": b"".join(
        post("/qa", BODY, "connection: upgrade, http2-settings", "upgrade: h2c", "http2-settings: AAMAAABkAARAAAAA")
    ),
    "two hosts": head("GET", "/health/live", "host: elsewhere"),
    "a space before a colon": b"POST /qa HTTP/1.1\r\nhost: a\r\ncontent-length : 2\r\n\r\n{}",
    "a line end of CR alone": b"GET /health/live HTTP/1.1\rhost: a\r\r",
    "a length with a sign": head("POST", "/qa", "content-type: application/json", "content-length: +45") + BODY,
    "a length that is a list": head("POST", "/qa", "content-type: application/json", "content-length: 45, 45") + BODY,
    "chunks twice": head("POST", "/qa", "transfer-encoding: chunked", "transfer-encoding: identity") + b"0\r\n\r\n",
    "a chunk's size with a space": CHUNKED + b"2 \r\n{}\r\n0\r\n\r\n",
    "a trailer that is a length": CHUNKED + b"2\r\n{}\r\n0\r\ncontent-length: 999\r\n\r\n",
    "a body that was not announced": head("GET", "/health/live", "content-length: 100000") + bytes(100_000),
    "expecting what nobody has": b"".join(post("/qa", BODY, "expect: 999-tea")),
    "a body that is not UTF-8": b"".join(post("/qa", b'{"question": "\xff", "context": "\xc3("}')),
    "UTF-16": b"".join(post("/qa", BODY.decode().encode("utf-16"))),
    "deep lists": b"".join(post("/qa", b"[" * 9_000)),
    "deep objects": b"".join(post("/qa", b'{"a":' * 1_900)),
    "1e999": b"".join(post("/qa", b'{"question": "a", "context": "b", "top_k": 1e999}')),
    "NaN": b"".join(post("/qa", b'{"question": "a", "context": "b", "top_k": NaN}')),
    "a number of 9,000 digits": b"".join(
        post("/qa", b'{"question": "a", "context": "b", "top_k": ' + b"9" * 9_000 + b"}")
    ),
    "a field twice": b"".join(post("/qa", b'{"question": "a", "question": 1, "context": "b"}')),
    "a field 1,000 times": b"".join(post("/qa", b"{" + b'"question": "a", ' * 1_000 + b'"context": "b"}')),
    "a gzip bomb": b"".join(post("/qa", gzip.compress(b" " * 8 * MEGABYTE), "content-encoding: gzip")),
    "half of gzip": b"".join(post("/qa", gzip.compress(BODY)[:-9], "content-encoding: gzip")),
    "gzip in gzip": b"".join(post("/qa", gzip.compress(gzip.compress(BODY)), "content-encoding: gzip, gzip")),
    "gzip that is not": b"".join(post("/qa", BODY, "content-encoding: gzip")),
    "a deadline that is no number": b"".join(post("/qa", BODY, "x-deadline-ms: \u0661".encode().decode("latin-1"))),
    "an id of 60 KB": b"".join(post("/qa", BODY, "x-request-id: " + "a" * 60_000)),
    "a key of 60 KB": b"".join(post("/qa", BODY, "authorization: Bearer " + "\x80" * 60_000)),
    "a traceparent of rubbish": b"".join(
        post("/qa", BODY, "traceparent: 00-" + "g" * 32 + "-0-zz", "tracestate: ,,=,")
    ),
}


@dataclass(frozen=True, slots=True)
class Target:
    """A server, and where its log is."""

    process: "subprocess.Popen[str]"
    url: str
    log: Path


@pytest.fixture(scope="module")
def target(bundles: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Target]:
    """Before it ends, nothing may be left of what was sent, and nothing unexpected may stand in its log."""
    log = tmp_path_factory.mktemp("hostile") / "log"
    with serve(bundles, log, READ_TIMEOUT_SECONDS="1", MAX_BODY_BYTES="20000") as (process, url):
        target = Target(process, url, log)
        for _ in range(20):
            statuses_of(send(target, WHOLE))
        before = resources(process.pid)
        yield target
        assert statuses_of(send(target, WHOLE)) == [200]
        end = monotonic() + 20
        while any(map(gt, resources(process.pid), before)) and monotonic() < end:
            sleep(0.05)
        assert not any(map(gt, resources(process.pid), before)), "what the last warm-up held may be gone by now"
        assert resident_mb(process.pid) < 400
        assert "Traceback" not in log.read_text()
        assert process.poll() is None


def resources(pid: int) -> tuple[int, int]:
    """Open descriptors and threads."""
    return len(os.listdir(f"/proc/{pid}/fd")), len(os.listdir(f"/proc/{pid}/task"))


def send(target: Target, content: bytes) -> bytes:
    """Returns: what comes until the server closes the connection, or has said something and then nothing for a while.

    It closes one that stalls within some two seconds, so that a minute without anything fails the test.
    """
    answer = b""
    with connect(target.url) as connection:
        try:
            connection.sendall(content)
            while piece := connection.recv(65_536):
                answer += piece
                connection.settimeout(0.1)
        except (BrokenPipeError, ConnectionResetError, TimeoutError):
            assert answer or not isinstance(sys.exc_info()[1], TimeoutError)
    return answer


def statuses_of(answer: bytes) -> list[int]:
    return [int(status) for status in re.findall(rb"^HTTP/1\.1 (\d{3}) [^\r\n]*\r\n", answer, re.MULTILINE)]


@pytest.mark.parametrize("name", CORPUS)
def test_strange_bytes_get_a_documented_status_or_a_close(target: Target, name: str) -> None:
    statuses = statuses_of(send(target, CORPUS[name]))
    assert set(statuses) <= STATUSES
    assert statuses_of(send(target, WHOLE)) == [200]


@settings(max_examples=500 if LONG else 25)
@given(seed=st.integers(0, 2**32 - 1))
def test_changed_bytes_get_a_documented_status_or_a_close(target: Target, seed: int) -> None:
    random = Random(seed)
    content = bytearray(random.choice([WHOLE, *CORPUS.values()])[:5_000])
    for _ in range(random.choice((1, 1, 3, 10))):
        position = random.randrange(len(content) + 1)
        added = random.choice((random.randbytes(1), b"\r\n", b"\0", b": ", b"\r\n\r\n", b"0\r\n", b"chunked", b"{"))
        content[position : position + random.choice((0, 1, 20))] = added
    assert set(statuses_of(send(target, bytes(content)))) <= STATUSES


def test_connections_that_say_nothing_are_closed_and_hold_nobody_up(target: Target) -> None:
    silent = [connect(target.url) for _ in range(300)]
    try:
        assert statuses_of(send(target, WHOLE)) == [200]
        assert all(was_cut_off(connection) for connection in silent)
    finally:
        for connection in silent:
            connection.close()


def test_clients_that_trickle_are_cut_off_and_hold_nobody_up(target: Target) -> None:
    slow = [connect(target.url) for _ in range(50)]
    try:
        for byte in WHOLE[:20]:  # each takes longer in all than a head may take
            for connection in slow:
                with suppress(BrokenPipeError, ConnectionResetError):
                    connection.sendall(bytes([byte]))
            sleep(0.1)
        assert statuses_of(send(target, WHOLE)) == [200]
        assert all(statuses_of(rest_of(connection)) in ([], [400], [408]) for connection in slow)
    finally:
        for connection in slow:
            connection.close()


def rest_of(connection: socket.socket) -> bytes:
    """What comes until the server closes the connection."""
    answer = b""
    try:
        while piece := connection.recv(65_536):
            answer += piece
    except ConnectionResetError:
        pass
    return answer


def test_a_client_that_closes_its_half_is_answered_or_left(target: Target) -> None:
    for content in (WHOLE, WHOLE[:-1], WHOLE * 20, CORPUS["an upgrade"], b""):
        with connect(target.url) as connection:
            connection.sendall(content)
            connection.shutdown(socket.SHUT_WR)
            assert set(statuses_of(rest_of(connection))) <= STATUSES
    assert statuses_of(send(target, WHOLE)) == [200]


def test_clients_that_vanish_leave_nothing_behind(target: Target) -> None:
    """Each at a byte of its own, by a reset; a client that asks beside them gets all of its answers."""
    random = Random(seed_of(1))
    with connect(target.url) as beside:
        for _ in range(1_000 if LONG else 100):
            connection = connect(target.url)
            connection.sendall((WHOLE * 3)[: random.randrange(3 * len(WHOLE) + 1)])
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            connection.close()
            if random.random() < 0.1:
                beside.sendall(WHOLE)
                answer, body = response(beside)
                assert (answer.status, b'"Paris"' in body) == (200, True)


def test_pipelines_whose_answers_nobody_reads_are_given_up(target: Target) -> None:
    """What waits for its turn is not parsed: uvicorn alone would take half a gigabyte here."""
    deaf = [connect(target.url) for _ in range(20)]
    try:
        for connection in deaf:
            connection.settimeout(0.5)
            with suppress(TimeoutError, BrokenPipeError, ConnectionResetError):
                for _ in range(20):
                    connection.sendall(WHOLE * 500)
        assert statuses_of(send(target, WHOLE)) == [200]
        large = head("GET", "/openapi.json") * 500  # whose answers do not fit into any buffer
        for connection in deaf:
            connection.close()
        with connect(target.url) as connection:
            connection.sendall(large)
            sleep(2)
            assert len(statuses_of(rest_of(connection))) < 500
    finally:
        for connection in deaf:
            connection.close()
