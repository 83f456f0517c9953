"""Defines a job, the work of one request: what it costs, which units it has, how it ends."""

from __future__ import annotations

import asyncio
import contextlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from time import perf_counter_ns
from typing import Any, Generic, Protocol, TypeVar

from models.tasks.session import Cancellation
from service.engine.errors import DeadlineExceededError, InferenceFailedError, ServiceError

T = TypeVar("T")


class Runner(Protocol):
    """Where a unit runs, as far as the unit may know."""

    is_inline: bool
    """Whether it is the event loop's thread, where a unit that turns out to take LONG_MS or more must not go on."""

    cancellation: Cancellation
    """Ends the runs of the unit from another thread."""

    def is_alone(self) -> bool:
        """Tell whether nothing else runs or waits, so that a run may take every core."""
        ...


@dataclass(frozen=True, slots=True)
class Answer(Generic[T]):
    """What the last unit of a job returns."""

    value: T


@dataclass(slots=True)
class Unit:
    """What one thread does of a job in one go. `call` returns the units that may follow now, or the job's answer."""

    job: Job[Any]  # of any answer
    cost_ms: float
    call: Callable[[Runner], Sequence[Unit] | Answer[Any]]

    def run(self, runner: Runner) -> Sequence[Unit]:
        """Make the call, unless the job is over. Whatever it raises ends the job, and nothing else.

        Returns: the units that may follow now.
        """
        job = self.job
        if job.is_over:
            return ()
        if job.deadline is not None and perf_counter_ns() > job.deadline:
            job.fail(DeadlineExceededError())
            return ()
        try:
            result = self.call(runner)
        except ServiceError as error:
            job.fail(error)
        except BaseException as error:
            # SystemExit would end the event loop, and a future cannot hold StopIteration: its caller would never wake.
            failure = InferenceFailedError()
            failure.__cause__ = error
            job.fail(failure)
        else:
            if not isinstance(result, Answer):
                return result
            if runner.is_inline and job.deadline is not None and perf_counter_ns() > job.deadline:
                job.fail(DeadlineExceededError())  # nobody else has looked at the clock
            elif not job.is_over:
                job.answer, job.is_over = result.value, True
        return ()


class Job(ABC, Generic[T]):
    """Made on the event loop, done by threads in units, ended once: by an answer or by an error.

    `estimate_ms` is what all of it should take on one core; `submitted` and `deadline` are in `perf_counter_ns`.
    `least_ms` is what must be done of it for any answer: all, if nothing else is said. `is_short` is true of a job that
    is a single unit, as far as can be told, and not a long one. `threads` is how many its runs take while nothing else
    runs. With `may_answer_in_part` what is there at the deadline may make an answer: then whoever makes it, and not the
    queue, counts the work that was dropped.

    Three fields are the queue's, which changes them under its lock, in milliseconds of one core: `outstanding_ms`, what
    is left of the estimate; `queued_ms`, the cost of all units that were put into the queue so far; `done_ms`, of those
    that have ended.
    """

    def __init__(
        self,
        task: str,
        estimate_ms: float,
        *,
        least_ms: float | None = None,
        deadline: int | None = None,
        is_short: bool = False,
        threads: int = 1,
    ) -> None:
        self.task, self.threads = task, threads
        self.estimate_ms = self.outstanding_ms = estimate_ms
        self.least_ms = estimate_ms if least_ms is None else least_ms
        self.queued_ms = self.done_ms = 0.0
        self.deadline = deadline
        self.is_short = is_short
        self.submitted = perf_counter_ns()
        self.is_over = False
        self.error: Exception | None = None
        self.may_answer_in_part = False
        self.answer: T | None = None
        self._loop = asyncio.get_running_loop()
        self.future: asyncio.Future[T] = self._loop.create_future()
        """What the caller awaits; `settle` sets its result or exception, once the unit that ended the job is over."""

    @abstractmethod
    def first_units(self) -> Sequence[Unit]:
        """Return the units with which the work begins."""

    def fail(self, error: Exception) -> None:
        """End the job, on any thread; units that wait are not begun. `deliver` or `settle` follows."""
        if not self.is_over:
            self.error, self.is_over = error, True

    def deliver(self) -> None:
        """Tell the caller of the end, from any thread."""
        with contextlib.suppress(RuntimeError):  # the loop is closed, so that nobody waits
            self._loop.call_soon_threadsafe(self.settle)

    def settle(self) -> None:
        """Tell the caller of the end, on the event loop's own thread."""
        if self.future.done():  # delivered before, or given up by the caller
            return
        if self.error is None:
            self.future.set_result(self.answer)  # type: ignore[arg-type]  # T itself may be None
        else:
            self.future.set_exception(self.error)
