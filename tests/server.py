"""The service as a child process, for tests that need the real thing, and connections to it, byte by byte."""

import os
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPResponse
from pathlib import Path
from urllib.parse import urlsplit

import httpx

from loadtest.process import service, spawn

ROOT = Path(__file__).parents[1]
START_S = 60
Server = tuple[subprocess.Popen[str], str]
"""The process and its URL."""


@contextmanager
def serve(bundles: Path, log: Path | None = None, /, **variables: str) -> Iterator[Server]:
    """On a free port, until the block ends. `variables` are settings, without their prefix; `log` takes its output."""
    settings = {"BUNDLES": str(bundles), "THREADS": "1"} | variables
    with service(log, **settings) as running:
        try:
            yield running.process, running.url
        finally:
            if "COVERAGE_PROCESS_CONFIG" not in os.environ:  # under `make coverage`: one that is killed writes no data
                running.process.kill()


@contextmanager
def serve_on_socket(
    bundles: Path, path: Path, /, **variables: str
) -> Iterator[tuple[subprocess.Popen[str], httpx.Client]]:
    """On a Unix socket, until the block ends; the client asks there. Its output goes to a log beside the socket."""
    log = path.with_suffix(".log")
    with log.open("w") as output:
        process = spawn(BUNDLES=str(bundles), THREADS="1", UDS=str(path), log=output, **variables)
    try:
        with httpx.Client(
            transport=httpx.HTTPTransport(uds=str(path)), base_url="http://service", timeout=60
        ) as client:
            while not listens(path):
                assert process.poll() is None, log.read_text()
                time.sleep(0.02)
            yield process, client
    finally:
        process.kill()
        process.wait()


def listens(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as probe:
        return probe.connect_ex(str(path)) == 0


def wait_until_ready(url: str, process: "subprocess.Popen[bytes]", log: Path) -> None:
    """Wait until what a process serves answers at `url`, as whatever stands before a service or beside it does."""
    end = time.monotonic() + START_S
    while time.monotonic() < end:
        assert process.poll() is None, log.read_text()
        try:
            if httpx.get(url).is_success:
                return
        except httpx.ConnectError:
            pass  # not listening yet
        time.sleep(0.1)
    raise AssertionError(f"{url} is not ready after {START_S} s: {log.read_text()}")


def connect(url: str) -> socket.socket:
    """Whatever does not happen within a minute fails the test."""
    address = urlsplit(url)
    return socket.create_connection((address.hostname or "", address.port or 0), timeout=60)


def head(method: str, path: str, *fields: str) -> bytes:
    return "\r\n".join([f"{method} {path} HTTP/1.1", "host: test", *fields, "", ""]).encode()


def post(path: str, body: bytes, *fields: str) -> tuple[bytes, bytes]:
    """Head and body."""
    return head("POST", path, "content-type: application/json", f"content-length: {len(body)}", *fields), body


def response(connection: socket.socket) -> tuple[HTTPResponse, bytes]:
    """The only one that is on its way: what has come behind it is lost."""
    answer = HTTPResponse(connection)
    answer.begin()
    return answer, answer.read()


def was_cut_off(connection: socket.socket) -> bool:
    """The server closed it without an answer."""
    try:
        return connection.recv(1) == b""
    except ConnectionResetError:
        return True
