"""Runs the units of the queue on threads, one for each core, and ends runs that hang."""

import logging
import threading
from dataclasses import dataclass, field
from queue import SimpleQueue
from typing import Any

from service.engine.errors import InferenceFailedError, NotReadyError
from service.engine.job import Job
from service.engine.policy import MAX_RUN_MS
from service.engine.queue import NOBODY, Queue, Slot, WakeUps

logger = logging.getLogger(__name__)


@dataclass(slots=True, eq=False)
class Worker:
    """A thread, and the slot where it runs units."""

    slot: Slot
    wake_ups: SimpleQueue[None]
    is_replaced: bool = False  # its run cannot be ended, and another thread has its place
    thread: threading.Thread = field(init=False)


class Workers:
    """A thread for each core of the queue, and a spare one for short units.

    The mutable state is `_workers` and `_stuck`, the lists of those in place and of those that were replaced while they
    ran. They are changed by `check_runs` and by a worker that dies, by single operations on a list, which need no lock.
    A wake-up that finds no unit does no harm.
    """

    def __init__(self, queue: Queue, *, max_run_ms: float = MAX_RUN_MS) -> None:
        self.max_run_ms = max_run_ms
        self._queue = queue
        self._is_open = True
        self._wake_ups: SimpleQueue[None] = SimpleQueue()  # what workers sleep on
        self._spare_wake_ups: SimpleQueue[None] = SimpleQueue()
        self._workers: list[Worker] = []
        self._stuck: list[Worker] = []
        for _ in range(queue.cores):
            self._start()
        self._start(is_spare=True)

    def wake(self, wake_ups: WakeUps) -> None:
        """Let sleeping workers take units of the queue."""
        for _ in range(wake_ups.workers):
            self._wake_ups.put(None)
        for _ in range(wake_ups.spare):
            self._spare_wake_ups.put(None)

    def check_ready(self) -> None:
        """Raises: NotReadyError while a run hangs."""
        if any(worker.slot.hangs(self.max_run_ms) for worker in (*self._workers, *self._stuck)):
            raise NotReadyError("a run hangs; restart this replica if that persists")

    def check_runs(self) -> None:
        """End each run that takes far too long; to be called every second or so.

        Its request fails at once. A run that does not even end after as long again loses its place to a new thread;
        until it comes back, `check_ready` raises.
        """
        for worker in tuple(self._workers):
            if not end_if_hung(self._queue, worker.slot, self.max_run_ms):
                logger.error("a run could not be cancelled; another thread has replaced its worker")
                worker.is_replaced = True
                self._stuck.append(worker)
                self._replace(worker)

    def close(self) -> None:
        """Finish what is queued, then end; a run that hangs is left behind."""
        self._is_open = False
        self.wake(WakeUps(len(self._workers), 1))
        for worker in tuple(self._workers):
            worker.thread.join(self.max_run_ms / 1e3)

    def _work(self, worker: Worker) -> None:
        """Run units for as long as the worker has its place."""
        slot = worker.slot
        job: Job[Any] | None = None
        try:
            while not worker.is_replaced:
                unit = self._queue.take(slot)
                if unit is None:
                    if not self._is_open:
                        return  # all is done
                    worker.wake_ups.get()
                while unit is not None:
                    job, following = unit.job, unit.run(slot)
                    unit, wake_ups, has_ended = self._queue.finish(
                        slot, unit, following, goes_on=not worker.is_replaced
                    )
                    if wake_ups is not NOBODY:
                        self.wake(wake_ups)
                    if has_ended:
                        job.deliver()
                job = None
        except BaseException:  # thrown into the thread from outside: what a unit raises does not get here
            logger.exception("a worker died and is replaced")
            if job is not None:
                self._queue.drop(job, InferenceFailedError())
                job.deliver()
            if not worker.is_replaced:
                self._replace(worker)
            worker.wake_ups.put(None)  # it may have taken one; one too many does no harm

    def _replace(self, worker: Worker) -> None:
        self._queue.give_up(worker.slot)
        self._workers.remove(worker)
        self._start(is_spare=worker.slot.is_spare)

    def _start(self, *, is_spare: bool = False) -> None:
        slot = Slot(self._queue, is_spare=is_spare)
        worker = Worker(slot, self._spare_wake_ups if is_spare else self._wake_ups)
        worker.thread = threading.Thread(target=self._work, args=(worker,), name="worker", daemon=True)
        self._workers.append(worker)
        worker.thread.start()


def end_if_hung(queue: Queue, slot: Slot, max_run_ms: float) -> bool:
    """End a run that takes far too long: its request fails, and the run is cancelled.

    Returns: False if it was cancelled before and has not ended after as long again, so that it may never end.
    """
    if not slot.hangs(max_run_ms):
        return True
    unit = slot.unit
    if unit is not None and not unit.job.is_over:
        logger.error("a run hangs and is ended", extra={"data": {"task": unit.job.task}})
        queue.drop(unit.job, InferenceFailedError())
        unit.job.deliver()
    cancellation = slot.cancellation
    was_cancelled = cancellation.requested  # if not, it has had no time to end: the whole process may have been stopped
    cancellation.request()
    return not (was_cancelled and slot.hangs(2 * max_run_ms))
