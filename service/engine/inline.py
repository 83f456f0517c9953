"""Runs a short job on the event loop's own thread if there is no other, which wakes no thread for it."""

import asyncio
import logging
import os
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from service.engine.job import Job, Unit
from service.engine.policy import LISTEN_TURNS, LONG_MS
from service.engine.queue import NOTHING, Queue, Slot
from service.engine.workers import Workers, end_if_hung

logger = logging.getLogger(__name__)


class InlineRunner:
    """Runs a job inline if all of these hold ("Do inline runs pay?" in docs/log/serving.md):

    1. Its model's runs take every core, so that the event loop would have none left anyway.
    2. It is one window of less than LONG_MS on one core, as far as can be told.
    3. It has no deadline, for nobody could look at the clock meanwhile.
    4. Nothing else runs or waits, and in the two turns of the event loop in which all requests that have arrived by now
       are read, no other comes: cores do more for several at the same time than for one after the other.
    5. It did not itself have to wait for an inline run, for then there are several callers.

    Nothing but Engine knows of it: without it, every job is submitted to the workers. Its state belongs to the event
    loop's thread, except for its slot, which is the queue's.
    """

    def __init__(self, queue: Queue, workers: Workers) -> None:
        self.slot = Slot(queue, longest_ms=LONG_MS)
        self._queue = queue
        self._workers = workers
        self._deciding = 0  # requests that wait for the fourth condition
        self._has_unread = False  # the event loop has not yet read what came during an inline run

    async def may_take(self, job: Job[Any], model_threads: int) -> bool:
        """Tell whether all conditions hold; the answer is good until the event loop's next turn."""
        if model_threads != self._queue.cores or not job.is_short or job.deadline is not None:
            return False
        if self._has_unread or not self._is_idle():
            return False
        self._deciding += 1
        try:
            future = asyncio.get_running_loop().create_future()
            _after_turns(LISTEN_TURNS - 1, partial(_resolve, future))  # what awaits it goes on in the turn after
            await future
            return self._deciding == 1 and self._is_idle()
        finally:
            self._deciding -= 1

    def run(self, job: Job[Any], units: Sequence[Unit]) -> None:
        """Do the job's unit, and what follows unless it turns out to be long: that goes to the workers.

        Raises: as Queue.submit.
        """
        slot = self.slot
        self._queue.submit(job, units, slot)
        [first] = units
        unit: Unit | None = first
        while unit is not None:
            unit, added_units, has_ended = self._queue.finish(slot, unit, unit.run(slot))
            if added_units is not NOTHING:
                self._workers.wake(added_units)
            if has_ended:
                job.settle()
        self._has_unread = True
        _after_turns(LISTEN_TURNS, self._note_that_all_is_read)

    def check_run(self) -> None:
        """End a run that takes far too long; to be called every second or so, from another thread.

        One that cannot be ended ends the process, for no other thread can take the place of the event loop's.
        """
        if not end_if_hung(self._queue, self.slot, self._workers.max_run_ms):
            logger.critical("a run on the event loop could not be cancelled, so the process ends; start it again")
            os._exit(1)

    def _is_idle(self) -> bool:
        return not (self._queue.jobs or self._queue.running or self._queue.heap)

    def _note_that_all_is_read(self) -> None:
        self._has_unread = False


def _after_turns(turns: int, action: Callable[[], None]) -> None:
    """Call the action after so many turns of the event loop."""
    if turns:
        asyncio.get_running_loop().call_soon(_after_turns, turns - 1, action)
    else:
        action()


def _resolve(future: asyncio.Future[None]) -> None:
    if not future.done():  # its task may have been cancelled
        future.set_result(None)
