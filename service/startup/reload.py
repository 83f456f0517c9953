"""Loads changed bundles on a thread of its own, and swaps the models between two requests."""

import asyncio
import gc
import logging
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from queue import Empty, SimpleQueue

from service.engine.model import Model
from service.startup.loading import Change, Stock

logger = logging.getLogger(__name__)

OUTCOMES = ("loaded", "removed", "failed")
JOIN_S = 10.0  # what is being loaded when the service ends may take so long; then it is left behind


@dataclass(frozen=True, slots=True)
class Reload:
    """The last look at the bundles that a signal asked for, or that found something: when, and what failed."""

    at: datetime
    errors: tuple[str, ...]


class Reloader:
    """Looks for changed bundles when asked, and every `seconds` if these are not 0.

    `swap` is called on the event loop with all models, the defaults first, and is done before the next request is
    looked at; what is in flight keeps the models that it has. `last` is set there too, right after it, so that nobody
    reads of a reload whose models are not served yet; `_told` belongs to the thread of the reloader.
    """

    def __init__(
        self,
        stock: Stock,
        requests: SimpleQueue[bool],
        seconds: float,
        swap: Callable[[Sequence[Model], Sequence[Change]], None],
    ) -> None:
        """`requests`: True asks for a reload; False ends the thread."""
        self.last: Reload | None = None
        self._stock, self._requests, self._seconds, self._swap = stock, requests, seconds, swap
        self._told: list[Change] = []
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Begin, on the event loop that serves."""
        loop = asyncio.get_running_loop()
        self._thread = threading.Thread(target=self._watch, args=(loop,), name="reload", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        self._requests.put(False)
        if self._thread is not None:
            self._thread.join(JOIN_S)

    def _watch(self, loop: asyncio.AbstractEventLoop) -> None:
        timeout = min(self._seconds, threading.TIMEOUT_MAX) or None
        while True:
            try:
                asked = goes_on = self._requests.get(timeout=timeout)
            except Empty:
                asked, goes_on = False, True
            if not goes_on:
                return
            self._reload(loop, asked=asked)

    def _reload(self, loop: asyncio.AbstractEventLoop, *, asked: bool) -> None:
        models, changes = self._stock.reload()
        is_new = asked or changes != self._told  # what fails at every look is told once
        self._told = changes if any(change.outcome == "failed" for change in changes) else []
        if not is_new:
            return
        reload = Reload(datetime.now(UTC), tuple(change.error for change in changes if change.error))
        for change in changes:
            if change.error:
                logger.error("reload failed, what was loaded is served on: %s", change.error)
        counts = {outcome: [change.model for change in changes if change.outcome == outcome] for outcome in OUTCOMES}
        logger.info("reload", extra={"data": counts})
        try:
            loop.call_soon_threadsafe(self._apply, models, changes, reload)
        except RuntimeError:  # the loop is closed: the service has ended meanwhile
            return
        del models
        gc.collect()  # a model that was swapped out goes at once, and not when Python next looks for circles

    def _apply(self, models: Sequence[Model], changes: Sequence[Change], reload: Reload) -> None:
        self._swap(models, changes)
        self.last = reload
