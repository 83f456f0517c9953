"""Reads what control groups, of version 1 or 2, grant this process: cores, memory, throttling.

Source: the kernel's documentation, admin-guide/cgroup-v2.rst (cpu.max, cpu.stat, memory.max),
scheduler/sched-bwc.rst (cpu.cfs_quota_us, cpu.cfs_period_us) and cgroup-v1/memory.rst (memory.limit_in_bytes).
"""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

NO_LIMIT = 1 << 60  # bytes; version 1 writes "none" as the largest multiple of a page


@dataclass(frozen=True, slots=True)
class Throttling:
    """Counts the periods of a quota, those in which the group had to wait for the next one, and how long it waited."""

    periods: int
    throttled: int
    seconds: float

    @property
    def share(self) -> float:
        return self.throttled / self.periods if self.periods else 0.0


@dataclass(frozen=True, slots=True)
class Cgroups:
    """Finds the files of our group and of all above it, of which any may be the narrowest.

    A container may see its own group as the root of the tree, under a path that does not exist there, or no tree at
    all; a file that is missing or cannot be read sets no limit.
    """

    root: Path = Path("/sys/fs/cgroup")
    membership: Path = Path("/proc/self/cgroup")

    def cores(self) -> float | None:
        """Return the cores of the narrowest quota on CPU time, maybe a fraction; None without a quota."""
        quotas = []
        for group in self._groups("cpu"):
            match [
                *_words(group / "cpu.max"),
                *_words(group / "cpu.cfs_quota_us"),
                *_words(group / "cpu.cfs_period_us"),
            ]:
                case [quota, period] if quota not in ("max", "-1"):
                    quotas.append(int(quota) / int(period))
        return min(quotas, default=None)

    def memory_limit(self) -> int | None:
        """Return the narrowest limit on memory, in bytes; None without one."""
        limits = [
            int(limit)
            for group in self._groups("memory")
            for limit in (*_words(group / "memory.max"), *_words(group / "memory.limit_in_bytes"))
            if limit != "max"
        ]
        return min((limit for limit in limits if limit < NO_LIMIT), default=None)

    def throttling(self) -> Throttling | None:
        """Read how often our group had to wait since it was made; None where nothing counts it."""
        for group in self._groups("cpu"):
            words = _words(group / "cpu.stat")
            counts = dict(zip(words[::2], words[1::2], strict=False))
            if "nr_periods" in counts:
                seconds = int(counts.get("throttled_usec", 0)) / 1e6 + int(counts.get("throttled_time", 0)) / 1e9
                return Throttling(int(counts["nr_periods"]), int(counts.get("nr_throttled", 0)), seconds)
        return None

    def throttled_seconds(self) -> float | None:
        """Read how long our group had to wait since it was made, in seconds; None where nothing counts it."""
        throttling = self.throttling()
        return None if throttling is None else throttling.seconds

    def _groups(self, controller: str) -> Iterator[Path]:
        """List the directories of our group and of those above it, of version 2 and then of version 1."""
        try:
            lines = self.membership.read_text().splitlines()
        except OSError:
            return
        for line in lines:
            _, controllers, path = line.split(":", 2)
            if controllers and controller not in controllers.split(","):
                continue
            mounts = [self.root / name for name in (controllers, controller)] if controllers else [self.root]
            tree = next((mount for mount in mounts if mount.is_dir()), None)
            group = Path(path.strip("/"))
            if tree is not None:
                yield from (tree / part for part in (group, *group.parents))


def cpu_share(cgroups: Cgroups = Cgroups()) -> int:
    """Count the whole cores that affinity and the quota grant, at least 1; a quota of 1.5 counts as 1."""
    cores = float(len(os.sched_getaffinity(0)))
    quota = cgroups.cores()
    return max(int(cores if quota is None else min(cores, quota)), 1)


def _words(file: Path) -> list[str]:
    """Split a file of the kernel's at its spaces; one that is missing or cannot be read has none."""
    try:
        return file.read_text().split()
    except OSError:
        return []
