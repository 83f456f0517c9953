"""Tells how long the kernel has held this container back for its CPU limit, and warns."""

import logging
import threading
from collections.abc import Callable, Iterator
from time import monotonic

from prometheus_client.core import CounterMetricFamily, Metric
from prometheus_client.registry import Collector

logger = logging.getLogger(__name__)

CHECK_S = 10.0  # between two looks
WARN_S = 300.0  # between two warnings at least
SHARE = 0.01  # of the time between two looks: less than this is not worth a warning


class Throttling(Collector):
    """Tells `halfdepth_cpu_throttled_seconds_total`, where there is a cgroup with a record of it.

    The mutable state, what was seen last and when a warning was due, belongs to the thread that calls `check`: after
    `start`, one of its own, which looks every CHECK_S.
    """

    def __init__(self, read_seconds: Callable[[], float | None], clock: Callable[[], float] = monotonic) -> None:
        self._read_seconds, self._clock = read_seconds, clock
        self._seen, self._seen_at = read_seconds(), clock()
        self._warned_at: float | None = None
        self._ended = threading.Event()

    def collect(self) -> Iterator[Metric]:
        seconds = self._read_seconds()
        if seconds is not None:
            yield CounterMetricFamily(
                "halfdepth_cpu_throttled_seconds",
                "Time for which the kernel held threads of this container back because of its CPU limit, summed up",
                value=seconds,
            )

    def start(self) -> None:
        threading.Thread(target=self._watch, name="throttling", daemon=True).start()

    def stop(self) -> None:
        self._ended.set()

    def _watch(self) -> None:
        while self._seen is not None and not self._ended.wait(CHECK_S):
            self.check()

    def check(self) -> None:
        """Warn if the time has grown since the last look, though not every time."""
        seconds, now = self._read_seconds(), self._clock()
        if seconds is None or self._seen is None:
            return
        grown, passed = seconds - self._seen, now - self._seen_at
        self._seen, self._seen_at = seconds, now
        if grown <= SHARE * passed or (self._warned_at is not None and now - self._warned_at < WARN_S):
            return
        self._warned_at = now
        logger.warning(
            "the CPU limit held this container back for %.1f s within %.0f s: raise the limit, or set "
            "HALFDEPTH_THREADS to the whole cores that it grants",
            grown,
            passed,
        )
