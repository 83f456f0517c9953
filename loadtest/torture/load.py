"""Loads a service from one thread, and judges every answer while the load runs."""

import json
import selectors
import threading
from array import array
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from random import Random
from time import perf_counter
from typing import Self

from loadtest.connection import Answer, Connection
from loadtest.torture.questions import Question, untimed

PATIENCE_S = 60.0  # for one answer; a request that takes longer hangs
TURN_S = 0.05
OK, BUSY = 200, {503, 504}  # a service may always say that it has too much to do


@dataclass(slots=True)
class Tally:
    """Counts what became of the requests that were sent: each is one of right, refused, closed, wrong or hung.

    `refused`: by status and code. `closed`: connections that ended without an answer. `unreached`: times that nothing
    accepted a connection, so that nothing was sent. `differing`: answers other than that of the same request alone.
    `statuses`: of every answer, by route. `began_s` and `took_ms`: of the answers with 200, from when they were due.
    """

    sent: int = 0
    right: int = 0
    refused: Counter[str] = field(default_factory=Counter)
    closed: int = 0
    hung: int = 0
    unreached: int = 0
    undocumented: list[str] = field(default_factory=list)
    differing: list[tuple[Question, bytes]] = field(default_factory=list)
    statuses: Counter[tuple[str, int]] = field(default_factory=Counter)
    of_tasks: Counter[int] = field(default_factory=Counter)
    began_s: "array[float]" = field(default_factory=lambda: array("d"))
    took_ms: "array[float]" = field(default_factory=lambda: array("d"))

    @property
    def wrong(self) -> int:
        return len(self.differing) + len(self.undocumented)

    @property
    def missing(self) -> int:
        """How many requests are in none of the counts; 0 unless we count wrongly."""
        return self.sent - self.right - self.refused.total() - self.closed - self.hung - self.wrong

    def judge(self, question: Question, answer: Answer, allowed: frozenset[int]) -> None:
        """Count an answer. `allowed`: statuses beside BUSY that are explained."""
        self.statuses[question.route, answer.status] += 1
        if question.has_task:
            self.of_tasks[answer.status] += 1
        if answer.status == OK:
            body = untimed(answer.body)
            if question.answer is None or body == question.answer:
                self.right += 1
            else:
                self.differing.append((question, body))
        elif answer.status in BUSY | allowed:
            self.refused[f"{answer.status} {_code(answer.body)}"] += 1
        else:
            self.undocumented.append(f"{question.route}: {answer.status} {answer.body[:200]!r}")


def _code(body: bytes) -> str:
    """Read the code of a problem; other people's forms of errors have none."""
    try:
        content = json.loads(body)
    except ValueError:
        return "?"
    return str(content.get("code", "")) if isinstance(content, dict) else ""


@dataclass(slots=True)
class _Asked:
    question: Question
    due: float


class Load:
    """Asks questions in random order until the block ends, and then waits for the last answers. Use as a context.

    Without `per_second`, each connection sends its next request on an answer. With it, requests are due at that rate,
    on as many connections as that takes, `connections` at most; their time counts from when they were due.
    """

    def __init__(
        self,
        url: str,
        questions: Sequence[Question],
        *,
        connections: int,
        seed: int,
        per_second: float | None = None,
        allowed: frozenset[int] = frozenset(),
    ) -> None:
        self.tally = Tally()
        self.allowed = allowed
        self._url, self._questions, self._most, self._per_second = url, questions, connections, per_second
        self._random = Random(seed)
        self._idle: list[Connection] = []
        self._busy: dict[Connection, _Asked] = {}
        self._selector = selectors.DefaultSelector()
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._run, name="load")
        self._began, self._retry_at = 0.0, 0.0

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._end.set()
        self._thread.join()

    def _run(self) -> None:
        self._began = perf_counter()
        with self._selector:
            while self._busy or not self._end.is_set():
                wait_s = TURN_S if self._end.is_set() else self._send_due()
                for key, _ in self._selector.select(wait_s):
                    self._receive(key.data)
                self._give_up(perf_counter() - PATIENCE_S)
            for connection in self._idle:
                connection.socket.close()

    def _send_due(self) -> float:
        """Send what is due. Returns: how long there is nothing to send, in seconds."""
        while True:
            now = perf_counter()
            due = now if self._per_second is None else self._began + self.tally.sent / self._per_second
            if due > now:
                return min(due - now, TURN_S)
            if now < self._retry_at or len(self._busy) >= self._most:
                return TURN_S
            connection = self._idle.pop() if self._idle else self._connect()
            if connection is None:
                self._retry_at = now + TURN_S
                return TURN_S
            question = self._random.choice(self._questions)
            self.tally.sent += 1
            self._busy[connection] = _Asked(question, due)
            try:
                connection.send(question.request)
            except OSError:
                self._drop(connection)

    def _connect(self) -> Connection | None:
        try:
            connection = Connection(self._url)
        except OSError:  # nothing listens
            self.tally.unreached += 1
            return None
        self._selector.register(connection.socket, selectors.EVENT_READ, connection)
        return connection

    def _receive(self, connection: Connection) -> None:
        try:
            answer = connection.receive()
        except OSError:
            self._drop(connection)
            return
        asked = self._busy.get(connection)
        if answer is None or asked is None:
            return
        del self._busy[connection]
        self.tally.judge(asked.question, answer, self.allowed)
        if answer.status == OK:
            self.tally.began_s.append(asked.due - self._began)
            self.tally.took_ms.append((perf_counter() - asked.due) * 1e3)
        if answer.closes:
            self._close(connection)
        else:
            self._idle.append(connection)

    def _give_up(self, sent_before: float) -> None:
        """Count requests as hung that were sent too long ago."""
        for connection in [connection for connection, asked in self._busy.items() if asked.due < sent_before]:
            self.tally.hung += 1
            del self._busy[connection]
            self._close(connection)

    def _drop(self, connection: Connection) -> None:
        """Forget a connection that the service has closed."""
        self.tally.closed += self._busy.pop(connection, None) is not None
        if connection in self._idle:
            self._idle.remove(connection)
        self._close(connection)

    def _close(self, connection: Connection) -> None:
        self._selector.unregister(connection.socket)
        connection.socket.close()
