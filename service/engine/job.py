"""A request on its way through the workers: what it costs, who waits for it, how it ends."""

from __future__ import annotations

import asyncio
import contextlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from time import perf_counter_ns
from typing import TYPE_CHECKING, Any, Generic, TypeVar

if TYPE_CHECKING:
    from service.engine.pool import Worker

T = TypeVar("T")


@dataclass(slots=True)
class Unit:
    """What one worker does of a job in one go. `call` returns the units that may follow, or completes the job."""

    job: Job[Any]  # of any answer
    cost_ms: float
    call: Callable[[Worker], Sequence[Unit]]


class Job(ABC, Generic[T]):
    """Made on the event loop, worked off by threads in units, ended once: by an answer or by an error.

    `estimate_ms` is what all of it should take on one core; `submitted` and `deadline` are in `perf_counter_ns`;
    The pool changes `outstanding_ms`, what is left of the estimate, `queued_ms`, the cost of all units that had their
    turn in the queue, and `done_ms`, of those that have ended.
    """

    def __init__(self, task: str, estimate_ms: float, *, deadline: int | None = None) -> None:
        self.task = task
        self.estimate_ms = self.outstanding_ms = estimate_ms
        self.queued_ms = self.done_ms = 0.0
        self.deadline = deadline
        self.submitted = perf_counter_ns()
        self.over = False
        self._answer: T | None = None
        self._error: Exception | None = None
        self._loop = asyncio.get_running_loop()
        self._future: asyncio.Future[Any] = self._loop.create_future()

    @abstractmethod
    def first_units(self) -> Sequence[Unit]:
        """Where the work begins."""

    def complete(self, answer: T) -> None:
        """On a worker, by the last unit. The worker delivers it when it has laid the unit down."""
        if not self.over:
            self._answer, self.over = answer, True

    def fail(self, error: Exception) -> None:
        """On any thread; what is left of the work is not begun. `deliver` follows."""
        if not self.over:
            self._error, self.over = error, True

    def deliver(self) -> None:
        """Hand the end to whoever waits, from any thread."""
        with contextlib.suppress(RuntimeError):  # a loop that is closed has nobody left who waits
            self._loop.call_soon_threadsafe(self.settle)

    def settle(self) -> None:
        """The same on the event loop's own thread."""
        if self._future.done():  # delivered before, or given up by its caller
            return
        if self._error is None:
            self._future.set_result(self._answer)
        else:
            self._future.set_exception(self._error)

    def __await__(self) -> Generator[Any, None, T]:
        """Raises: what the job ended in."""
        return self._future.__await__()
