"""Measures what slow clients do to others: `/qa` at concurrency 1 without and among many of them."""

import contextlib
import http.client
import json
import resource
import socket
import statistics
import sys
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from time import monotonic, perf_counter, sleep
from typing import Annotated
from urllib.parse import urlsplit

from models.tasks.errors import UsageError, run_command
from models.tasks.options import Flag, Options, read_options
from models.tasks.remote.address import service_url
from models.tasks.remote.client import KEY_HELP, ClientError, client_key, key_headers, refusal, unreachable

BODY = json.dumps({"question": "Who wrote it?", "context": "Ada Lovelace wrote the first program in 1843."})
HEAD = "POST /qa HTTP/1.1\r\nhost: slow\r\ncontent-type: application/json\r\n"


def beginnings(key: str | None) -> tuple[bytes, ...]:
    """Say what a third of the clients each sends: nothing, half a head, half a body; then a byte a second."""
    head = (HEAD + "".join(f"{name}: {value}\r\n" for name, value in key_headers(key).items())).encode()
    return b"", head, head + b"content-length: 1000000\r\n\r\n{"


class SlowClients:
    """Keeps connections open, and opens them again whenever the service cuts them off. Use as a context."""

    def __init__(self, host: str, port: int, count: int, key: str | None = None) -> None:
        self._address = (host, port)
        self._beginnings = beginnings(key)
        self._sockets: list[socket.socket | None] = [None] * count
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self.opened = 0

    def __enter__(self) -> "SlowClients":
        self._send_all()
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._end.set()
        self._thread.join()
        for connection in filter(None, self._sockets):
            connection.close()

    def _run(self) -> None:
        while not self._end.wait(1):
            self._send_all()

    def _send_all(self) -> None:
        """Send a byte on each connection that stands, and open those that do not."""
        for index, connection in enumerate(self._sockets):
            beginning = self._beginnings[index % len(self._beginnings)]
            try:
                if connection is None:
                    self._sockets[index] = connection = socket.create_connection(self._address, timeout=10)
                    self.opened += 1
                    connection.sendall(beginning)
                elif beginning:
                    connection.sendall(b"x")
            except OSError:
                self._drop(index)
                continue
            if _is_closed(connection):
                self._drop(index)

    def _drop(self, index: int) -> None:
        connection = self._sockets[index]
        if connection is not None:
            connection.close()
        self._sockets[index] = None


def _is_closed(connection: socket.socket) -> bool:
    connection.setblocking(False)
    try:
        return connection.recv(1) == b""
    except BlockingIOError:
        return False
    except OSError:
        return True
    finally:
        connection.settimeout(10)


def ask(host: str, port: int, seconds: float, key: str | None = None) -> list[float]:
    """Return the milliseconds of requests, one after the other and each on a new connection.

    Raises: OSError, ClientError.
    """
    times_ms = []
    headers = {"Content-Type": "application/json"} | key_headers(key)
    end = monotonic() + seconds
    while monotonic() < end:
        began = perf_counter()
        with contextlib.closing(http.client.HTTPConnection(host, port, timeout=60)) as connection:
            connection.request("POST", "/qa", BODY, headers)
            response = connection.getresponse()
            content = response.read()
        if response.status != 200:
            raise ClientError(refusal(response.status, content))
        times_ms.append((perf_counter() - began) * 1e3)
        sleep(0.01)
    return sorted(times_ms)


@dataclass(frozen=True, slots=True, kw_only=True)
class SlowOptions(Options):
    """Measure what slow clients do to others: `/qa` at concurrency 1 without and among many of them."""

    url: Annotated[str, Flag("a running service")] = "http://localhost:8000"
    api_key: Annotated[str | None, Flag(KEY_HELP, metavar="KEY")] = None
    connections: Annotated[int, Flag("number of slow clients", above=0)] = 1000
    seconds: Annotated[float, Flag("duration of each of the two parts, seconds", above=0)] = 20.0


def main(argv: Sequence[str] | None = None, *, prog: str = "python -m loadtest.slow") -> int:
    return run_command(prog, run, prog, argv)


def run(prog: str, argv: Sequence[str] | None) -> None:
    """Print both parts. Raises: ClientError, UsageError."""
    options = read_options(SlowOptions, prog, argv)
    url, key = service_url(options.url), client_key(options.api_key)
    address = urlsplit(url)
    if address.scheme == "https" or address.path:
        raise UsageError(f"{url} must be http://HOST:PORT: slow clients write bytes, without TLS, to /qa")
    host, port = address.hostname or "localhost", address.port or 80
    _, limit = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (limit, limit))
    try:
        baseline_ms = ask(host, port, options.seconds, key)
        with SlowClients(host, port, options.connections, key) as slow_clients:
            loaded_ms = ask(host, port, options.seconds, key)
    except ClientError as error:
        raise ClientError(f"{url}/qa: {error}") from error
    except (OSError, http.client.HTTPException) as error:
        raise unreachable(url, error) from error
    sys.stdout.write(
        f"{options.connections} slow connections, opened {slow_clients.opened} times in all; milliseconds\n"
    )
    for name, times_ms in (("without them", baseline_ms), ("among them", loaded_ms)):
        p99 = times_ms[int(0.99 * len(times_ms))]
        sys.stdout.write(f"{name:12}  {len(times_ms)} requests, p50 {statistics.median(times_ms):.2f}, p99 {p99:.2f}\n")


if __name__ == "__main__":
    sys.exit(main())
