"""Asks the service at next to no cost: requests are made beforehand, answers read by hand.

`http.client` would add up to 0.3 ms of its own to a request (docs/log/serving.md).
"""

import json
import selectors
import socket
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from select import select
from time import perf_counter
from typing import Any
from urllib.parse import urlsplit

TIMEOUT_S = 60


def post(route: str, content: object, **headers: str) -> bytes:
    """Make a request as it is sent; `content` becomes JSON, underscores in names of headers become hyphens."""
    body = json.dumps(content).encode()
    fields = {"host": "localhost", "content-type": "application/json", "content-length": str(len(body))}
    fields |= {name.replace("_", "-"): value for name, value in headers.items()}
    head = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
    return f"POST {route} HTTP/1.1\r\n{head}\r\n".encode() + body


def get(route: str, **headers: str) -> bytes:
    head = "".join(f"{name}: {value}\r\n" for name, value in ({"host": "localhost"} | headers).items())
    return f"GET {route} HTTP/1.1\r\n{head}\r\n".encode()


@dataclass(slots=True)
class Answer:
    """Holds what came back."""

    status: int
    body: bytes
    milliseconds: float
    closes: bool = False  # the service takes no further request on this connection

    def json(self) -> Any:  # whatever the service answers
        return json.loads(self.body)


class Connection:
    """Stays open, for one request at a time. Raises: OSError, ConnectionError if the service closes it."""

    def __init__(self, url: str) -> None:
        address = urlsplit(url)
        self._address = (address.hostname or "localhost", address.port or 80)
        self.socket = self._open()
        self._received = b""
        self._sent_at = 0.0

    def _open(self) -> socket.socket:
        opened = socket.create_connection(self._address, TIMEOUT_S)
        opened.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return opened

    def connect(self) -> None:
        """Connect anew."""
        self.socket.close()
        self.socket, self._received = self._open(), b""

    def __enter__(self) -> "Connection":
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()

    def ask(self, request: bytes, *, polls: bool = False) -> Answer:
        """Send a request and read its answer. `polls`: without sleeping meanwhile, so that waking up takes no time."""
        self.send(request)
        while True:
            while polls and not select([self.socket], [], [], 0)[0]:
                pass
            if (answer := self.receive()) is not None:
                return answer

    def send(self, request: bytes, due: float | None = None) -> None:
        """Send a request. `due`: when its time begins to count, by `perf_counter`; by default now."""
        self._sent_at = perf_counter() if due is None else due
        self.socket.sendall(request)

    def receive(self) -> Answer | None:
        """Read what has come. Returns: the answer; None while it is not complete."""
        part = self.socket.recv(1 << 20)
        if not part:
            raise ConnectionError("the service closed the connection")
        self._received += part
        head, separator, body = self._received.partition(b"\r\n\r\n")
        if not separator:
            return None
        fields = head.lower()
        start = fields.index(b"content-length:") + len(b"content-length:")
        if len(body) < int(fields[start:].split(b"\r\n", 1)[0]):
            return None
        self._received = b""
        closes = b"\r\nconnection: close" in fields
        return Answer(int(head[9:12]), body, (perf_counter() - self._sent_at) * 1e3, closes)


def closed_loop(url: str | Sequence[str], requests: Sequence[bytes], concurrency: int, seconds: float) -> list[Answer]:
    """Keep so many connections busy: each sends its next request on an answer. Returns: what came in time.

    Connections are dealt evenly among several servers.

    One thread over a selector, so that the load takes little of the cores that it shares with the service.
    """
    with selectors.DefaultSelector() as selector:
        urls = [url] if isinstance(url, str) else url
        connections = [Connection(urls[number % len(urls)]) for number in range(concurrency)]
        supply = _repeat(requests)
        answers: list[Answer] = []
        try:
            for connection in connections:
                selector.register(connection.socket, selectors.EVENT_READ, connection)
                connection.send(next(supply))
            end = perf_counter() + seconds
            while (now := perf_counter()) < end:
                for key, _ in selector.select(end - now):
                    connection = key.data
                    answer = connection.receive()
                    if answer is None:
                        continue
                    answers.append(answer)
                    if answer.closes:
                        selector.unregister(connection.socket)
                        connection.connect()
                        selector.register(connection.socket, selectors.EVENT_READ, connection)
                    connection.send(next(supply))
        finally:
            for connection in connections:
                connection.socket.close()
    return answers


def _repeat(requests: Sequence[bytes]) -> Iterator[bytes]:
    while True:
        yield from requests
