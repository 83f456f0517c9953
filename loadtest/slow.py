"""Measures what slow clients do to others: `/qa` at concurrency 1 without and among many of them."""

import argparse
import contextlib
import http.client
import json
import resource
import socket
import statistics
import sys
import threading
from collections.abc import Sequence
from time import monotonic, perf_counter, sleep
from urllib.parse import urlsplit

BODY = json.dumps({"question": "Who wrote it?", "context": "Ada Lovelace wrote the first program in 1843."})
HEAD = b"POST /qa HTTP/1.1\r\nhost: slow\r\ncontent-type: application/json\r\n"
BEGINNINGS = (b"", HEAD, HEAD + b"content-length: 1000000\r\n\r\n{")
"""A third of the clients each: nothing, half a head, half a body. Behind them comes a byte a second."""


class SlowClients:
    """Connections that are opened again whenever the service cuts them off. Use as a context."""

    def __init__(self, host: str, port: int, count: int) -> None:
        self._address = (host, port)
        self._sockets: list[socket.socket | None] = [None] * count
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self.opened = 0

    def __enter__(self) -> "SlowClients":
        self._send_all()
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()
        for connection in filter(None, self._sockets):
            connection.close()

    def _run(self) -> None:
        while not self._over.wait(1):
            self._send_all()

    def _send_all(self) -> None:
        """A byte on each connection that stands; each that does not is opened."""
        for index, connection in enumerate(self._sockets):
            beginning = BEGINNINGS[index % len(BEGINNINGS)]
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


def ask(host: str, port: int, seconds: float) -> list[float]:
    """Milliseconds of each request, one after the other on connections of their own. Raises: OSError, RuntimeError."""
    spent = []
    end = monotonic() + seconds
    while monotonic() < end:
        begun = perf_counter()
        with contextlib.closing(http.client.HTTPConnection(host, port, timeout=60)) as connection:
            connection.request("POST", "/qa", BODY, {"Content-Type": "application/json"})
            response = connection.getresponse()
            content = response.read()
        if response.status != 200:
            raise RuntimeError(f"answered {response.status}: {content.decode()}")
        spent.append((perf_counter() - begun) * 1e3)
        sleep(0.01)
    return sorted(spent)


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m loadtest.slow", description=__doc__)
    parser.add_argument("--url", default="http://localhost:8000", help="a running service (default: %(default)s)")
    parser.add_argument("--connections", type=int, default=1000, help="slow clients (default: %(default)s)")
    parser.add_argument("--seconds", type=float, default=20, help="of each of the two parts (default: %(default)s)")
    arguments = parser.parse_args(argv)
    address = urlsplit(arguments.url)
    host, port = address.hostname or "localhost", address.port or 80
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    try:
        alone = ask(host, port, arguments.seconds)
        with SlowClients(host, port, arguments.connections) as slow:
            among = ask(host, port, arguments.seconds)
    except (OSError, RuntimeError) as error:
        sys.stderr.write(f"python -m loadtest.slow: {arguments.url}: {error}; start the service with `make serve`\n")
        return 2
    sys.stdout.write(f"{arguments.connections} slow connections, opened {slow.opened} times in all; milliseconds\n")
    for name, spent in (("without them", alone), ("among them", among)):
        p99 = spent[int(0.99 * len(spent))]
        sys.stdout.write(f"{name:12}  {len(spent)} requests, p50 {statistics.median(spent):.2f}, p99 {p99:.2f}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
