"""Decides which jobs are let in, and which unit is next; it starts nothing and waits for nothing."""

import itertools
import math
import threading
from collections import deque
from collections.abc import Callable, Sequence
from heapq import heappop, heappush
from time import perf_counter_ns
from typing import Any, NamedTuple

from models.tasks.session import Cancellation
from service.engine.errors import CallerGoneError, DeadlineExceededError, NotReadyError, QueueFullError
from service.engine.job import Job, Unit
from service.engine.policy import LONG_MS, MAX_OVERRUN, SHORT_MS, SIMILAR_MS, STRETCH

DEADLINE = "deadline"
PARTIAL = "partial"  # of a request that was answered without what its deadline left no time for

DROP_REASONS: dict[type[Exception], str] = {
    QueueFullError: "queue_full",
    DeadlineExceededError: DEADLINE,
    CallerGoneError: "client_gone",
}

CountDrop = Callable[[str, str], None]
"""Called with the task of a job that was turned away or given up, and one of DROP_REASONS, or PARTIAL."""


class WakeUps(NamedTuple):
    """How many sleeping workers have work now, and whether the spare one has."""

    workers: int = 0
    spare: int = 0


class Next(NamedTuple):
    """What follows a unit that has ended."""

    unit: Unit | None  # to go on with at once, on the same runner
    wake_ups: WakeUps
    has_ended: bool  # the job has ended with this unit; now its caller must be told


NOBODY = WakeUps()


class Slot:
    """A place where one unit runs at a time: a worker's thread, or the event loop's own.

    The queue changes `unit` and `since` (when the unit began, in `perf_counter_ns`) under its lock.
    """

    def __init__(self, queue: "Queue", *, is_inline: bool = False, is_spare: bool = False) -> None:
        """`is_inline`: the event loop's, for units of less than LONG_MS. A spare slot takes only what is too short to
        wait for the others.
        """
        self.is_inline = is_inline
        self.is_spare = is_spare
        self.cancellation = Cancellation()
        self.unit: Unit | None = None
        self.since: int | None = None
        self._queue = queue

    def is_alone(self) -> bool:
        """Tell whether nothing waits and nothing runs elsewhere."""
        return not self._queue.heap and len(self._queue.running) <= 1

    def runs_longer_than(self, limit_ms: float) -> bool:
        since = self.since
        return since is not None and perf_counter_ns() - since > limit_ms * 1e6

    def hangs(self, max_run_ms: float) -> bool:
        """Tell whether the unit has run for longer than this, and for longer than a multiple of its estimate."""
        unit = self.unit
        return self.runs_longer_than(max(max_run_ms, MAX_OVERRUN * unit.cost_ms if unit else 0.0))


class Queue:
    """Holds the units of all jobs, in the order of their job's arrival + STRETCH · its cost up to there.

    So each job waits for a multiple of its own cost at most, and short ones pass between the windows of long ones.
    No more units run than there are cores. While the event loop's thread takes part (`inline` is its slot), one of the
    cores is its own, also between two units, when it reads and writes. Where every core is within a long window, a
    spare worker takes short units: the kernel's scheduler gives it a core at once, and the windows lose what it takes.
    The queue is bounded in estimated milliseconds of work.

    The mutable state is whether jobs are let in (`_is_open`), the jobs that were and are not over (`jobs`), what waits
    of them (`heap`, `_short_units`), what runs (`running`, `inline`, and `unit` and `since` of each slot), and the work
    that is left (`_backlog_ms`, `_longest_ms`, and of each job `outstanding_ms`, `queued_ms` and `done_ms`). It is
    changed only here, under `_lock`. No lock is needed to read `queue_ms`, or whether `jobs`, `heap` or `running` is
    empty.

    Source: Bender, Chakrabarti and Muthukrishnan 1998, Flow and stretch metrics for scheduling continuous job
    streams: earliest deadline first, with deadlines set by a stretch.
    """

    def __init__(
        self,
        cores: int,
        max_queue_ms: float = math.inf,
        count_drop: CountDrop = lambda _task, _reason: None,
    ) -> None:
        self.cores, self.max_queue_ms = cores, max_queue_ms
        self.count_drop = count_drop
        self.jobs: set[Job[Any]] = set()
        self.heap: list[tuple[float, int, Unit]] = []
        self.running: dict[Slot, Unit] = {}
        self.inline: Slot | None = None
        self._is_open = True
        self._short_units: deque[Unit] = deque()
        self._numbers = itertools.count()
        self._backlog_ms = 0.0  # milliseconds of one core
        self._longest_ms = 0.0  # at least what the longest of the jobs takes
        self._lock = threading.Lock()

    @property
    def queue_ms(self) -> float:
        """How long all that was let in will take, by estimate."""
        return self._backlog_ms / self.cores

    def close(self) -> None:
        """Let no further job in. What waits is the workers': the event loop, where this is called, may end before."""
        with self._lock:
            self._is_open = False
            self.inline = None

    def check_open(self) -> None:
        """Raises: NotReadyError once the queue is closed."""
        if not self._is_open:
            raise NotReadyError("the service takes no requests now; try again")

    def submit(self, job: Job[Any], units: Sequence[Unit], inline: Slot | None = None) -> WakeUps:
        """Let a job in; its units wait. `inline`: the event loop's slot, where `take_inline` will be called soon.

        Returns: who has work now. Raises: NotReadyError, QueueFullError, DeadlineExceededError; then no work was begun.
        """
        with self._lock:
            self.check_open()
            refusal = self._refusal(job)
            if refusal is None:
                self.jobs.add(job)
                self._longest_ms = max(self._longest_ms, job.estimate_ms)
                self._backlog_ms += job.outstanding_ms
                self.inline = inline or self.inline
                return self._push(units)
        self.count_drop(job.task, DROP_REASONS[type(refusal)])
        raise refusal

    def take(self, slot: Slot) -> Unit | None:
        """Return the unit that is due first, which runs from now on; None if there is none for this slot."""
        with self._lock:
            if slot.is_spare:
                unit = self._short_units.popleft() if self._short_units else None
            else:
                unit = heappop(self.heap)[2] if self.heap and self._free_cores() > 0 else None
            if unit is not None:
                self._begin(slot, unit)
            return unit

    def take_inline(self, slot: Slot, *, may_be_alone: bool) -> tuple[Unit | None, WakeUps]:
        """Return the unit that is due first, if the event loop's thread should run it: it is short, and no core is left
        without work, either because there is enough for the others or because the unit is alone and takes them all.

        Returns: the unit; without one, the thread takes part no more. And who has work besides.
        """
        with self._lock:
            self.inline = None
            unit = self.heap[0][2] if self.heap and self._suits_inline(self.heap[0][2], may_be_alone) else None
            if unit is not None:
                heappop(self.heap)
                self.inline = slot
                self._begin(slot, unit)
            return unit, WakeUps(self._idle_workers(len(self.heap)))

    def finish(self, slot: Slot, unit: Unit, following: Sequence[Unit], *, goes_on: bool = True) -> Next:
        """End a unit. If just one follows, its slot goes on with it, if it may; otherwise they wait."""
        job = unit.job
        with self._lock:
            if slot.cancellation.requested:
                slot.cancellation = Cancellation()
            has_ended = self._discharge(job, unit.cost_ms)
            if job.is_over:
                following = ()  # it may have been dropped meanwhile
            self._expect(job, sum([unit.cost_ms for unit in following]))
            if goes_on and len(following) == 1 and not (slot.is_inline and following[0].cost_ms >= LONG_MS):
                [next_unit] = following
                job.queued_ms += next_unit.cost_ms
                self._begin(slot, next_unit)
                return Next(next_unit, NOBODY, has_ended)
            self._clear(slot)
            wake_ups = self._push(following) if following else NOBODY
        if has_ended:
            self._count_if_dropped(job)
        return Next(None, wake_ups, has_ended)

    def drop(self, job: Job[Any], error: Exception) -> bool:
        """End a job: what waits of it is not begun, what runs is thrown away at its end.

        Returns: whether it had not ended before; if so, its caller must be told.
        """
        with self._lock:
            job.fail(error)
            has_ended = self._discharge(job, 0.0)
        if has_ended:
            self._count_if_dropped(job)
        return has_ended

    def give_up(self, slot: Slot) -> None:
        """Forget a slot whose thread has died, or may never come back; what it does now counts as running no more."""
        with self._lock:
            self.running.pop(slot, None)

    def _refusal(self, job: Job[Any]) -> QueueFullError | DeadlineExceededError | None:
        """Tell why a job is not let in: what is due before it fills the queue, or leaves it no time."""
        if job.deadline is None and self.queue_ms <= self.max_queue_ms:
            return None
        wait_ms = self._ahead_ms(job) / self.cores
        if wait_ms > self.max_queue_ms:
            return QueueFullError(wait_ms=wait_ms, retry_after_s=(wait_ms - self.max_queue_ms) / 1e3)
        soonest = job.submitted + (wait_ms + job.least_ms / self.cores) * 1e6
        if job.deadline is not None and soonest > job.deadline:
            return DeadlineExceededError()
        return None

    def _ahead_ms(self, job: Job[Any]) -> float:
        """Estimate what is due before the end of a new job, in milliseconds of one core.

        A job about as long as the longest overtakes no other, so the whole backlog counts; looking at each of hundreds
        would take CPU time from them.
        """
        if self._longest_ms - job.estimate_ms <= SIMILAR_MS:
            return self._backlog_ms
        self._longest_ms = max(
            [queued_job.outstanding_ms + queued_job.done_ms for queued_job in self.jobs], default=0.0
        )
        ahead_ms = 0.0
        for queued_job in self.jobs:
            earlier_ms = (job.submitted - queued_job.submitted) / 1e6 / STRETCH + job.estimate_ms - queued_job.done_ms
            ahead_ms += min(max(earlier_ms, 0.0), queued_job.outstanding_ms)
        return ahead_ms

    def _push(self, units: Sequence[Unit]) -> WakeUps:
        short_units = 0
        for unit in units:
            job = unit.job
            job.queued_ms += unit.cost_ms
            if job.estimate_ms <= SHORT_MS and self._all_workers_are_long():
                self._short_units.append(unit)
                short_units += 1
                continue
            due_ms = job.submitted / 1e6 + STRETCH * job.queued_ms
            heappush(self.heap, (due_ms, next(self._numbers), unit))
        return WakeUps(self._idle_workers(len(units) - short_units), short_units)

    def _suits_inline(self, unit: Unit, may_be_alone: bool) -> bool:
        job, free_cores = unit.job, self._free_cores()
        if not job.is_short or unit.cost_ms >= LONG_MS or free_cores < 1:
            return False
        if job.deadline is not None and job.deadline < perf_counter_ns() + LONG_MS * 1e6:
            return False
        if len(self.heap) >= free_cores:
            return True
        return may_be_alone and job.threads == self.cores and not self.running and len(self.heap) == 1

    def _free_cores(self) -> int:
        """Count the cores that no unit has, and that the event loop's thread has not taken."""
        taken = sum([not slot.is_spare for slot in self.running])
        return self.cores - taken - (self.inline is not None and self.inline not in self.running)

    def _idle_workers(self, units: int) -> int:
        """Count the workers to wake for so many units."""
        return max(min(units, self._free_cores()), 0)

    def _all_workers_are_long(self) -> bool:
        """Tell whether every worker but the spare one is within a long unit."""
        if len(self.running) < self.cores:
            return False
        long_slots = [slot for slot, unit in self.running.items() if unit.cost_ms >= LONG_MS and not slot.is_spare]
        return len(long_slots) >= self.cores

    def _begin(self, slot: Slot, unit: Unit) -> None:
        self.running[slot] = slot.unit = unit
        slot.since = perf_counter_ns()

    def _clear(self, slot: Slot) -> None:
        self.running.pop(slot, None)
        slot.unit = slot.since = None

    def _expect(self, job: Job[Any], left_ms: float) -> None:
        """Note what is left of a job, now that it is known; more than was estimated counts from here on."""
        excess_ms = left_ms - job.outstanding_ms
        if excess_ms > 0:
            job.outstanding_ms += excess_ms
            self._longest_ms = max(self._longest_ms, job.outstanding_ms + job.done_ms)
            self._backlog_ms += excess_ms

    def _discharge(self, job: Job[Any], cost_ms: float) -> bool:
        """Take off what a unit cost that has ended, or all of a job that is over.

        Returns: whether the job leaves the queue by this.
        """
        if job not in self.jobs:
            return False
        job.done_ms += cost_ms
        discharged_ms = job.outstanding_ms if job.is_over else min(cost_ms, job.outstanding_ms)
        job.outstanding_ms -= discharged_ms
        self._backlog_ms -= discharged_ms
        if job.is_over:
            self.jobs.discard(job)
            if not self.jobs:
                self._backlog_ms = 0.0  # sums of floats drift
        return job.is_over

    def _count_if_dropped(self, job: Job[Any]) -> None:
        reason = None if job.error is None else DROP_REASONS.get(type(job.error))
        if reason is not None and not (job.may_answer_in_part and reason == DEADLINE):
            self.count_drop(job.task, reason)
