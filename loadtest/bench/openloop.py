"""Sends requests at a fixed rate, whether or not those before have been answered."""

import math
import selectors
from collections.abc import Sequence
from dataclasses import dataclass, field
from time import perf_counter

from loadtest.connection import Answer, Connection

MAX_CONNECTIONS = 4000
MAX_SELECTED = 900  # `select` takes no descriptor above 1023


@dataclass(slots=True)
class Arrivals:
    """What came of them. `lost`: connections that were closed without an answer; `unsent`: for want of a connection."""

    answers: list[Answer] = field(default_factory=list)
    sent: int = 0
    lost: int = 0
    unsent: int = 0


class Connections:
    """Keeps the connections of an open loop: the busy ones, and the idle ones, which are used again.

    `lost`: how many were closed without an answer.
    """

    def __init__(self, url: str, selector: selectors.BaseSelector, most: int) -> None:
        self._url, self._selector, self._most = url, selector, most
        self._idle: list[Connection] = []
        self.busy: set[Connection] = set()
        self.lost = 0

    def take(self) -> Connection | None:
        """Return one to send a request on; None if `most` are busy, or the service no longer listens."""
        if self._idle:
            connection = self._idle.pop()
        elif len(self.busy) < self._most:
            try:
                connection = Connection(self._url)
            except OSError:
                return None
            self._selector.register(connection.socket, selectors.EVENT_READ, connection)
        else:
            return None
        self.busy.add(connection)
        return connection

    def receive(self, connection: Connection) -> Answer | None:
        """Read what has come. Returns: the answer; None while it is not complete, and if the connection is lost."""
        try:
            answer = connection.receive()
        except OSError:
            self.lost += connection in self.busy
            self._drop(connection)
            return None
        if answer is None:
            return None
        if answer.closes:
            self._drop(connection)
        else:
            self.busy.discard(connection)
            self._idle.append(connection)
        return answer

    def _drop(self, connection: Connection) -> None:
        self._selector.unregister(connection.socket)
        connection.socket.close()
        self.busy.discard(connection)
        if connection in self._idle:
            self._idle.remove(connection)

    def close(self) -> None:
        for connection in (*self.busy, *self._idle):
            connection.socket.close()


def open_loop(url: str, requests: Sequence[bytes], per_second: float, seconds: float, patience_s: float) -> Arrivals:
    """Send evenly for so many seconds, then wait for what is outstanding, for `patience_s` at most."""
    due_s = [number / per_second for number in range(math.ceil(seconds * per_second))]
    sent = [requests[number % len(requests)] for number in range(len(due_s))]
    return open_loop_at(url, sent, due_s, patience_s, is_exact=False)


def open_loop_at(
    url: str,
    requests: Sequence[bytes],
    due_s: Sequence[float],
    patience_s: float,
    *,
    is_exact: bool = True,
    polls: bool = False,
) -> Arrivals:
    """Send each request when it is due, in seconds from now on, then wait for what is outstanding.

    `is_exact`: the time of an answer counts from when its request was due, so that a client that falls behind hides
    nothing, and waits are not rounded up to whole milliseconds, as epoll rounds them. Otherwise it counts from when the
    request was sent. `polls`: the client never sleeps, so that no time is its own waking up; it needs a core
    of its own.
    """
    arrivals = Arrivals()
    with selectors.SelectSelector() if is_exact else selectors.DefaultSelector() as selector:
        connections = Connections(url, selector, MAX_SELECTED if is_exact else MAX_CONNECTIONS)
        began = perf_counter()
        end, number = began + due_s[-1], 0
        while (now := perf_counter()) <= end or number < len(due_s) or (connections.busy and now < end + patience_s):
            while number < len(due_s) and began + due_s[number] <= now:
                connection = connections.take()
                if connection is None:
                    arrivals.unsent += 1
                else:
                    connection.send(requests[number], began + due_s[number] if is_exact else None)
                    arrivals.sent += 1
                number += 1
            wait_s = began + due_s[number] - perf_counter() if number < len(due_s) else 0.1
            for key, _ in selector.select(0.0 if polls else max(wait_s, 0.0)):
                if (answer := connections.receive(key.data)) is not None:
                    arrivals.answers.append(answer)
        arrivals.lost = connections.lost + len(connections.busy)
        connections.close()
    return arrivals
