"""The service as a child process, for tests that need the real thing, and connections to it, byte by byte."""

import os
import re
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPResponse
from pathlib import Path
from typing import IO
from urllib.parse import urlsplit

ROOT = Path(__file__).parents[1]
URL = re.compile(r"http://[\d.]+:\d+")
Server = tuple[subprocess.Popen[str], str]
"""The process and its URL."""


def spawn(*arguments: str, log: IO[str] | int = subprocess.PIPE, **variables: str) -> subprocess.Popen[str]:
    """`variables` are settings, without their prefix; `log` takes what goes to standard error."""
    environment = os.environ | {f"HALFDEPTH_{name}": value for name, value in variables.items()}
    command = [sys.executable, "-m", "service", *arguments]
    return subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=log, text=True)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def serve(bundles: Path, **variables: str) -> Iterator[Server]:
    """On a free port, until the block ends. `variables` are settings, without their prefix.

    Standard error is a pipe, which holds the lines of some 200 requests: more of them need `serve_and_log`.
    """
    process = _spawn_server(bundles, subprocess.PIPE, variables)
    assert process.stderr
    try:
        url = None
        while url is None and (line := process.stderr.readline()):
            url = URL.search(line)
        assert url, "the server ended before it listened"
        yield process, url[0]
    finally:
        process.kill()
        process.communicate()


@contextmanager
def serve_and_log(bundles: Path, log: Path, **variables: str) -> Iterator[Server]:
    """The same with standard error in a file."""
    with log.open("w") as stream:
        process = _spawn_server(bundles, stream, variables)
    try:
        while not (url := URL.search(log.read_text())):
            assert process.poll() is None, "the server ended before it listened"
            time.sleep(0.05)
        yield process, url[0]
    finally:
        process.kill()
        process.communicate()


def _spawn_server(bundles: Path, log: IO[str] | int, variables: dict[str, str]) -> subprocess.Popen[str]:
    return spawn(log=log, **{"BUNDLES": str(bundles), "PORT": "0", "THREADS": "1"} | variables)


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
