"""Reads what a process and all its descendants take of the machine. Linux only."""

import os
from collections.abc import Iterable
from pathlib import Path

from loadtest.process import TICKS

PROC = Path("/proc")


def descendants(pid: int) -> list[int]:
    """List the processes below this one, nearest first."""
    children: dict[int, list[int]] = {}
    for entry in PROC.iterdir():
        if entry.name.isdecimal() and (fields := _stat(int(entry.name))):
            children.setdefault(int(fields[1]), []).append(int(entry.name))
    found = list(children.get(pid, []))
    for process in found:
        found += children.get(process, [])
    return found


def memory_mb(pids: Iterable[int]) -> float:
    """Add up memory, megabytes. What several processes share counts once: each has its proportional share (PSS)."""
    return sum(map(_memory_kb, pids)) * 1024 / 1e6


def cpu_seconds(pids: Iterable[int]) -> float:
    """Add up the CPU time until now, with that of their children that have ended."""
    return sum(sum(map(int, fields[11:15])) for pid in pids if (fields := _stat(pid))) / TICKS


def _stat(pid: int) -> list[str]:
    """Read the fields from the third on, the state; none if the process has ended."""
    try:
        return (PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()
    except OSError:
        return []


def _memory_kb(pid: int) -> int:
    try:
        lines = (PROC / str(pid) / "smaps_rollup").read_text().splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith("Pss:"))
    except (OSError, StopIteration):  # it has ended, or the kernel does not say: then what is resident
        return _resident_kb(pid)


def _resident_kb(pid: int) -> int:
    try:
        return int((PROC / str(pid) / "statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") // 1024
    except OSError:
        return 0
