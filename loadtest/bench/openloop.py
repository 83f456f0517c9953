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
    idle: list[Connection] = []
    busy: set[Connection] = set()
    most = MAX_SELECTED if is_exact else MAX_CONNECTIONS
    with selectors.SelectSelector() if is_exact else selectors.DefaultSelector() as selector:
        began = perf_counter()
        end, number = began + due_s[-1], 0
        while (now := perf_counter()) <= end or number < len(due_s) or (busy and now < end + patience_s):
            while number < len(due_s) and began + due_s[number] <= now:
                connection = idle.pop() if idle else _connect(url, selector) if len(busy) < most else None
                number += 1
                if connection is None:
                    arrivals.unsent += 1
                    continue
                connection.send(requests[number - 1], began + due_s[number - 1] if is_exact else None)
                busy.add(connection)
                arrivals.sent += 1
            wait_s = began + due_s[number] - perf_counter() if number < len(due_s) else 0.1
            for key, _ in selector.select(0.0 if polls else max(wait_s, 0.0)):
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


def _connect(url: str, selector: selectors.BaseSelector) -> Connection | None:
    try:
        connection = Connection(url)
    except OSError:  # the service no longer listens
        return None
    selector.register(connection.socket, selectors.EVENT_READ, connection)
    return connection
