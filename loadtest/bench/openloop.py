"""Sends requests at a fixed rate, whether or not those before have been answered."""

import selectors
from collections.abc import Sequence
from dataclasses import dataclass, field
from time import perf_counter

from loadtest.connection import Answer, Connection

MAX_CONNECTIONS = 4000


@dataclass(slots=True)
class Arrivals:
    """What came of them. `lost`: connections that were closed without an answer; `unsent`: for want of a connection."""

    answers: list[Answer] = field(default_factory=list)
    sent: int = 0
    lost: int = 0
    unsent: int = 0


def open_loop(url: str, requests: Sequence[bytes], per_second: float, seconds: float, patience_s: float) -> Arrivals:
    """Send for so many seconds, then wait for what is outstanding, for `patience_s` at most."""
    arrivals = Arrivals()
    idle: list[Connection] = []
    busy: set[Connection] = set()
    with selectors.DefaultSelector() as selector:
        began = perf_counter()
        end = began + seconds
        while (now := perf_counter()) < end or (busy and now < end + patience_s):
            while now < end and arrivals.sent + arrivals.unsent < (now - began) * per_second:
                connection = idle.pop() if idle else _connect(url, selector, len(busy))
                if connection is None:
                    arrivals.unsent += 1
                    continue
                connection.send(requests[arrivals.sent % len(requests)])
                busy.add(connection)
                arrivals.sent += 1
            due = (arrivals.sent + arrivals.unsent) / per_second + began
            for key, _ in selector.select(max(min(due, end) - perf_counter(), 0.0) if now < end else 0.1):
                connection = key.data
                try:
                    answer = connection.receive()
                except OSError:
                    selector.unregister(connection.socket)
                    connection.socket.close()
                    arrivals.lost += connection in busy
                    busy.discard(connection)
                    if connection in idle:
                        idle.remove(connection)
                    continue
                if answer is not None:
                    arrivals.answers.append(answer)
                    busy.discard(connection)
                    if answer.closes:
                        selector.unregister(connection.socket)
                        connection.socket.close()
                    else:
                        idle.append(connection)
        arrivals.lost += len(busy)
        for connection in (*busy, *idle):
            connection.socket.close()
    return arrivals


def _connect(url: str, selector: selectors.BaseSelector, connection_count: int) -> Connection | None:
    if connection_count >= MAX_CONNECTIONS:
        return None
    try:
        connection = Connection(url)
    except OSError:  # the service no longer listens
        return None
    selector.register(connection.socket, selectors.EVENT_READ, connection)
    return connection
