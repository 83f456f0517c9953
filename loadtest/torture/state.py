"""Reads what a service holds of the machine, and what its metrics and its log have counted."""

import json
import os
import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from urllib.request import ProxyHandler, build_opener

from loadtest.process import resident_mb

COUNTER = re.compile(r"^halfdepth_requests_total\{([^}]*)\} (\S+)$", re.MULTILINE)
LABEL = re.compile(r'(\w+)="([^"]*)"')
TIMEOUT_S = 60.0


@dataclass(frozen=True, slots=True)
class Holdings:
    """What a process holds: threads, open descriptors, resident memory in megabytes. Linux only."""

    threads: int
    descriptors: int
    resident_mb: float

    @classmethod
    def of(cls, pid: int) -> "Holdings":
        return cls(len(os.listdir(f"/proc/{pid}/task")), len(os.listdir(f"/proc/{pid}/fd")), resident_mb(pid))


def metrics(url: str) -> str:
    with build_opener(ProxyHandler({})).open(f"{url}/metrics", timeout=TIMEOUT_S) as response:
        text: str = response.read().decode()
        return text


def requests_counted(exposition: str) -> Counter[tuple[str, int]]:
    """Read how many requests the metrics have counted, by task and status."""
    counted: Counter[tuple[str, int]] = Counter()
    for labels, value in COUNTER.findall(exposition):
        found = dict(LABEL.findall(labels))
        counted[found["task"], int(found["status"])] += int(float(value))
    return counted


def requests_logged(lines: Iterable[str]) -> tuple[Counter[tuple[str, int]], Counter[tuple[str, int]]]:
    """Count the requests in a log. Returns: by route and status; of those with a task, by task and status."""
    by_route: Counter[tuple[str, int]] = Counter()
    by_task: Counter[tuple[str, int]] = Counter()
    for line in lines:
        if '"logger": "service.access"' not in line:
            continue
        fields = json.loads(line)
        by_route[fields.get("route", ""), fields["status"]] += 1
        if "task" in fields:
            by_task[fields["task"], fields["status"]] += 1
    return by_route, by_task


def by_status(counted: Counter[tuple[str, int]]) -> Counter[int]:
    """Add up over routes or tasks."""
    sums: Counter[int] = Counter()
    for (_, status), number in counted.items():
        sums[status] += number
    return sums
