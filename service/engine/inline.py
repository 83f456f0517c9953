"""Runs short jobs on the event loop's own thread, which wakes no thread for them."""

import asyncio
import logging
import os
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from service.engine.job import Job, Unit
from service.engine.policy import LISTEN_TURNS
from service.engine.queue import NOBODY, Queue, Slot, WakeUps
from service.engine.workers import Workers, end_if_hung

logger = logging.getLogger(__name__)


class InlineRunner:
    """Lets the event loop's thread do one core's share of the work while there is enough for all cores.

    It takes the unit that is due first if all of these hold ("Who runs what?" in docs/log/serving.md):

    1. The job is one window of less than LONG_MS on one core, as far as can be told: the event loop cannot read, write
       or look at a clock meanwhile.
    2. No core is left without work: there is a unit for each of the others, or the unit is alone and takes them all.
       Before it decides, the thread reads for LISTEN_TURNS turns of the event loop all requests that have arrived.
    3. A unit that is alone did not itself have to wait for an inline run, for then there are several callers.

    Nothing but Engine knows of it: without it, workers do every job. Its state belongs to the event loop's thread,
    except for its slot, which is the queue's.
    """

    def __init__(self, queue: Queue, workers: Workers) -> None:
        self.slot = Slot(queue, is_inline=True)
        self._queue = queue
        self._workers = workers
        self._is_listening = False

    def submit(self, job: Job[Any], units: Sequence[Unit]) -> None:
        """Let a job in whose only unit this thread may run, or else a worker will. Raises: as Queue.submit."""
        spare = self._queue.submit(job, units, self.slot).spare
        if spare:
            self._workers.wake(WakeUps(spare=spare))
        self._listen(after_run=False)

    def check_run(self) -> None:
        """End a run that takes far too long; to be called every second or so, from another thread.

        One that cannot be ended ends the process, for no other thread can take the place of the event loop's.
        """
        if not end_if_hung(self._queue, self.slot, self._workers.max_run_ms):
            logger.critical("a run on the event loop could not be cancelled, so the process ends; start it again")
            os._exit(1)

    def _listen(self, *, after_run: bool) -> None:
        if not self._is_listening:
            self._is_listening = True
            _after_turns(LISTEN_TURNS, partial(self._go_on, after_run=after_run))

    def _go_on(self, *, after_run: bool) -> None:
        self._is_listening = False
        unit, wake_ups = self._queue.take_inline(self.slot, may_be_alone=not after_run)
        if wake_ups.workers:
            self._workers.wake(wake_ups)
        if unit is not None:
            self._listen(after_run=True)
            self._run(unit)

    def _run(self, unit: Unit) -> None:
        """Run the unit, and what follows unless it turns out to be long: that goes to the workers."""
        following: Unit | None = unit
        while following is not None:
            job, units = following.job, following.run(self.slot)
            following, wake_ups, has_ended = self._queue.finish(self.slot, following, units)
            if wake_ups is not NOBODY:
                self._workers.wake(wake_ups)
            if has_ended:
                job.settle()


def _after_turns(turns: int, action: Callable[[], None]) -> None:
    """Call the action after so many turns of the event loop."""
    if turns:
        asyncio.get_running_loop().call_soon(_after_turns, turns - 1, action)
    else:
        action()
