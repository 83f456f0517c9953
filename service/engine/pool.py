"""Worker threads, one for each core: which unit is next, and what happens to a run that hangs."""

import asyncio
import itertools
import logging
import math
import os
import threading
from collections.abc import Callable, Sequence
from heapq import heappop, heappush
from queue import SimpleQueue
from time import perf_counter_ns
from typing import Any

import onnxruntime as ort

from service.engine.admission import LATE, STRETCH, Admission
from service.engine.costs import LONG_MS, SHORT_MS
from service.engine.job import Job, Unit
from service.errors import DeadlineExceededError, InferenceFailedError, NotReadyError, QueueFullError, ServiceError

logger = logging.getLogger(__name__)

TURNS = 2  # of uvloop's event loop: in the first it reads what has come, in the second the requests in it begin
MAX_RUN_MS = 10_000  # of one unit; the longest window takes a thousandth of it
FAILED = "the model failed on this request; report its request_id if that happens again"

Dropped = Callable[[str, str], None]
"""Told of each job that was turned away or given up: its task, and `queue_full`, `deadline` or `client_gone`."""


class Worker:
    """A thread of the pool, and what it does now; `options` end a run from outside. One that works `beside` the others
    takes only what is too short to wait for them; the `inline` one is the event loop's own thread.
    """

    def __init__(self, pool: "Pool", *, beside: bool = False, inline: bool = False) -> None:
        self.pool = pool
        self.beside, self.inline = beside, inline
        self.options = ort.RunOptions()
        self.unit: Unit | None = None
        self.since: int | None = None  # when its unit began, in perf_counter_ns
        self.lost = False  # its run cannot be ended, and another thread has its place
        self.thread: threading.Thread  # unless it is the inline one

    @property
    def is_long(self) -> bool:
        """It has a long unit in its hands, or is for short ones alone."""
        unit = self.unit
        return self.beside or (unit is not None and unit.cost_ms >= LONG_MS)

    def alone(self) -> bool:
        """Nothing else runs or waits, so that a run may take every core."""
        return self.pool.is_alone(self)

    def may_take(self, cost_ms: float) -> bool:
        """The event loop must not be deaf for the length of a long unit."""
        return not self.inline or cost_ms < LONG_MS

    def takes_over(self, limit_ms: float) -> bool:
        since = self.since
        return since is not None and perf_counter_ns() - since > limit_ms * 1e6


class Pool:
    """The units of all jobs in one queue, in the order of their job's arrival + STRETCH · its cost up to there.

    So each job waits for a multiple of its own cost at most, and short ones pass between the windows of long ones.
    Where every core is within a long window, one more thread takes short units beside them: the kernel's scheduler
    gives it a core at once, and the windows lose what it takes.

    A short job that finds nobody else is done inline, on the event loop's own thread: its run takes every core, so that
    the loop could do nothing meanwhile, and two threads need not wake each other (docs/log.md has what that costs).

    Source: Bender, Chakrabarti and Muthukrishnan 1998, Flow and stretch metrics for scheduling continuous job
    streams: earliest deadline first, with deadlines set by a stretch.
    """

    def __init__(
        self,
        size: int,
        *,
        max_queue_ms: float = math.inf,
        max_run_ms: float = MAX_RUN_MS,
        dropped: Dropped = lambda _task, _reason: None,
    ) -> None:
        self.size, self.max_run_ms = size, max_run_ms
        self.dropped = dropped
        self._open = True
        self._lock = threading.Lock()
        self._heap: list[tuple[float, int, Unit]] = []
        self._numbers = itertools.count()
        self._tokens: SimpleQueue[None] = SimpleQueue()  # one for each unit of the heap: what workers sleep on
        self._beside: SimpleQueue[Unit | None] = SimpleQueue()
        self._admission = Admission(size, max_queue_ms)  # changed under the lock
        self._workers: list[Worker] = []
        self._lost: list[Worker] = []
        self._inline = Worker(self, inline=True)
        self._entering = 0  # requests that ask whether the pool is idle
        self._was_deaf = False  # the event loop has not yet read what came while it ran a job
        for _ in range(size):
            self._start_worker()
        self._start_worker(beside=True)

    @property
    def queue_ms(self) -> float:
        """How long all that was admitted will take, by estimate."""
        return self._admission.queue_ms

    @property
    def in_flight(self) -> int:
        """Jobs that were admitted and are not over."""
        return len(self._admission.jobs)

    def is_alone(self, worker: Worker) -> bool:
        return not self._heap and all(other is worker or other.unit is None for other in self._workers)

    async def stays_idle(self) -> bool:
        """Nothing is under way, nor is it once everybody who has knocked by now was heard.

        Whoever had to wait for an inline run is not the only caller, and cores do more for several at the same time
        than for one after the other.
        """
        self._entering += 1
        try:
            for _ in range(TURNS):
                if self._was_deaf or self.in_flight or not self.is_alone(self._inline):
                    return False
                await asyncio.sleep(0)
                if self._entering > 1:
                    return False
            return not self.in_flight
        finally:
            self._entering -= 1

    def submit(self, job: Job[Any], *, inline: bool = False) -> None:
        """On the event loop. `inline`: begin it on this thread, which must not be done with a job of several units.

        Raises: NotReadyError, QueueFullError, DeadlineExceededError; then no work was begun.
        """
        self.check_open()
        units = job.first_units()
        with self._lock:
            refusal = self._admission.refusal(job)
            if refusal is None:
                self._admission.admit(job)
                if not inline:
                    self._push(units)
        if refusal is not None:
            self.dropped(job.task, "queue_full" if isinstance(refusal, QueueFullError) else "deadline")
            raise refusal
        if inline:
            self._perform_inline(*units)

    def drop(self, job: Job[Any], error: Exception, reason: str | None = None) -> None:
        """End a job from any thread: what waits of it is not begun, what runs is thrown away at its end."""
        with self._lock:
            if job.over:
                return
            job.fail(error)
            self._admission.discharge(job, 0.0)
        if reason is not None:
            self.dropped(job.task, reason)
        job.deliver()

    def check_open(self) -> None:
        """Raises: NotReadyError once the pool is closed."""
        if not self._open:
            raise NotReadyError("the service takes no requests now; try again", headers={"Retry-After": "1"})

    def check_ready(self) -> None:
        """Raises: NotReadyError if the pool is closed, or while a run hangs."""
        self.check_open()
        if any(worker.takes_over(self.max_run_ms) for worker in (*self._workers, *self._lost)):
            raise NotReadyError("a run hangs; restart this replica if that lasts", headers={"Retry-After": "1"})

    def check_runs(self) -> None:
        """End each run that takes far too long; to be called every second or so.

        Its own request fails at once. A run that does not even end after as long again loses its place to a new
        thread; until it comes back, `check_ready` tells. On the event loop nobody can take its place.
        """
        for worker in (*self._workers, self._inline):
            if not worker.takes_over(self.max_run_ms):
                continue
            unit = worker.unit
            if unit is not None and not unit.job.over:
                logger.error("a run hangs and is ended", extra={"data": {"task": unit.job.task}})
                self.drop(unit.job, InferenceFailedError(FAILED))
            asked_before, worker.options.terminate = worker.options.terminate, True
            if not (asked_before and worker.takes_over(2 * self.max_run_ms)):
                continue  # it has had no time to end, also where all of the process was stopped for a while
            if worker.inline:
                logger.critical("a run on the event loop cannot be ended, so the process ends; start it again")
                os._exit(1)
            logger.error("a run cannot be ended; another thread takes its place")
            worker.lost = True
            self._lost.append(worker)
            self._replace(worker)

    def close(self) -> None:
        """Finish what is queued, then end; a run that hangs is left behind."""
        self._open = False
        for _ in self._workers:
            self._tokens.put(None)
        self._beside.put(None)
        for worker in tuple(self._workers):
            worker.thread.join(self.max_run_ms / 1e3)

    def work(self, worker: Worker) -> None:
        """What a worker's thread does."""
        unit: Unit | None = None
        try:
            while not worker.lost:
                unit = self._beside.get() if worker.beside else self._next()
                if unit is None and not self._open:
                    return  # all is done
                while unit is not None:
                    unit = self._perform(unit, worker)
        except BaseException:  # thrown into the thread from outside: what a unit raises does not get here
            logger.exception("a worker died and is replaced")
            if unit is not None:
                self.drop(unit.job, InferenceFailedError(FAILED))
            self._tokens.put(None)  # it may have had one in its hands; one too many does no harm
            self._replace(worker)

    def _next(self) -> Unit | None:
        """Wait for the unit that is due first; None if the token was for no unit."""
        self._tokens.get()
        with self._lock:
            return heappop(self._heap)[2] if self._heap else None

    def _perform_inline(self, first: Unit) -> None:
        first.job.queued_ms += first.cost_ms
        unit: Unit | None = first
        while unit is not None:
            unit = self._perform(unit, self._inline)
        self._was_deaf = True
        self._listen(TURNS)

    def _listen(self, turns: int) -> None:
        """So many turns from now the event loop has read what came while it was deaf."""
        if turns:
            asyncio.get_running_loop().call_soon(self._listen, turns - 1)
        else:
            self._was_deaf = False

    def _perform(self, unit: Unit, worker: Worker) -> Unit | None:
        """Returns: the unit to go on with, if there is just one."""
        job = unit.job
        following: Sequence[Unit] = ()
        began_live = not job.over
        try:
            if began_live:
                worker.since, worker.unit = perf_counter_ns(), unit
                following = self._call(unit, worker)
        finally:
            worker.since = worker.unit = None
            if worker.options.terminate:
                worker.options = ort.RunOptions()
            with self._lock:
                self._admission.discharge(job, unit.cost_ms)
                if job.over:
                    following = ()  # it was dropped meanwhile
                self._admission.expect(job, sum(each.cost_ms for each in following))
                goes_on = len(following) == 1 and not worker.lost and worker.may_take(following[0].cost_ms)
                if goes_on:
                    job.queued_ms += following[0].cost_ms
                else:
                    self._push(following)
            if began_live and job.over:
                job.settle() if worker.inline else job.deliver()
        return following[0] if goes_on else None

    def _call(self, unit: Unit, worker: Worker) -> Sequence[Unit]:
        if unit.job.deadline is not None and perf_counter_ns() > unit.job.deadline:
            self.drop(unit.job, DeadlineExceededError(LATE), "deadline")
            return ()
        try:
            return unit.call(worker)
        except ServiceError as error:
            unit.job.fail(error)
        except BaseException as error:
            # Whatever it is, it ends here: SystemExit would end the event loop, and a future cannot hold
            # StopIteration, so that its waiter would wait for ever.
            failed = InferenceFailedError(FAILED)
            failed.__cause__ = error
            unit.job.fail(failed)
        return ()

    def _replace(self, worker: Worker) -> None:
        self._workers.remove(worker)
        self._start_worker(beside=worker.beside)

    def _start_worker(self, *, beside: bool = False) -> None:
        worker = Worker(self, beside=beside)
        worker.thread = threading.Thread(target=self.work, args=(worker,), name="worker", daemon=True)
        self._workers.append(worker)
        worker.thread.start()

    def _push(self, units: Sequence[Unit]) -> None:
        """Under the lock."""
        for unit in units:
            unit.job.queued_ms += unit.cost_ms
            if unit.job.estimate_ms <= SHORT_MS and all(worker.is_long for worker in self._workers):
                self._beside.put(unit)
                continue
            due = unit.job.submitted / 1e6 + STRETCH * unit.job.queued_ms
            heappush(self._heap, (due, next(self._numbers), unit))
            self._tokens.put(None)
