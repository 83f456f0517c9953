"""Measures the parts of a start, which together make up all of it."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from time import CLOCK_BOOTTIME, clock_gettime, perf_counter
from typing import Literal

Part = Literal["imports", "files", "graphs", "golden", "tuning", "other"]


class StartClock:
    """Adds up seconds by part: a part within another stops the clock of the outer one.

    `imports` is the interpreter and all modules, `files` the reading, downloading and checking of bundles, `graphs`
    their opening and first runs, `golden` the golden answers, `tuning` what measures this machine.
    """

    def __init__(self, age_s: float = 0.0) -> None:
        """`age_s`: what has gone by already, all of it for imports."""
        self.seconds: dict[str, float] = {}
        self._part: Part = "imports"
        self._since = perf_counter() - age_s
        self._switch("other")

    @contextmanager
    def part(self, name: Part) -> Iterator[None]:
        outer = self._switch(name)
        try:
            yield
        finally:
            self._switch(outer)

    def stop(self) -> dict[str, float]:
        """Returns: the seconds until now, by part."""
        self._switch("other")
        return dict(self.seconds)

    def _switch(self, part: Part) -> Part:
        now, ended = perf_counter(), self._part
        self.seconds[ended] = self.seconds.get(ended, 0.0) + now - self._since
        self._since, self._part = now, part
        return ended


def process_age(stat: Path = Path("/proc/self/stat")) -> float:
    """Read how many seconds ago the kernel began this process, to a hundredth; 0 where it does not say."""
    try:
        began_ticks = int(stat.read_text().rpartition(")")[2].split()[19])  # field 22 of proc(5)
    except (OSError, ValueError, IndexError):
        return 0.0
    return max(clock_gettime(CLOCK_BOOTTIME) - began_ticks / os.sysconf("SC_CLK_TCK"), 0.0)
