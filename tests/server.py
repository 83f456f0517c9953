"""The service as a child process, for tests that need the real thing, and connections to it, byte by byte."""

import os
import re
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPResponse
from pathlib import Path
from urllib.parse import urlsplit

ROOT = Path(__file__).parents[1]
Server = tuple[subprocess.Popen[str], str]
"""The process and its URL."""


def spawn(*arguments: str, **variables: str) -> subprocess.Popen[str]:
    """`variables` are settings, without their prefix."""
    environment = os.environ | {f"HALFDEPTH_{name}": value for name, value in variables.items()}
    command = [sys.executable, "-m", "service", *arguments]
    return subprocess.Popen(
        command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


@contextmanager
def serve(bundles: Path, **variables: str) -> Iterator[Server]:
    """On a free port, until the block ends. `variables` are settings, without their prefix."""
    process = spawn(**{"BUNDLES": str(bundles), "PORT": "0", "THREADS": "1"} | variables)
    assert process.stderr
    try:
        url = None
        while url is None and (line := process.stderr.readline()):
            url = re.search(r"http://[\d.]+:\d+", line)
        assert url, "the server ended before it listened"
        yield process, url[0]
    finally:
        process.kill()
        process.communicate()


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
    answer = HTTPResponse(connection)
    answer.begin()
    return answer, answer.read()


def was_cut_off(connection: socket.socket) -> bool:
    """The server closed it without an answer."""
    try:
        return connection.recv(1) == b""
    except ConnectionResetError:
        return True
