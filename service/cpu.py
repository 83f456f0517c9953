"""How much of the machine this process may use."""

import os
from pathlib import Path


def cpu_share(cgroup_root: Path = Path("/sys/fs/cgroup"), membership: Path = Path("/proc/self/cgroup")) -> int:
    """Whole cores that affinity and the cgroup's `cpu.max` grant, at least 1; a quota of 1.5 counts as 1.

    Source: the kernel's cgroup v2 documentation (cpu.max: quota and period in microseconds, or "max").
    """
    cores = float(len(os.sched_getaffinity(0)))
    for file in _limits(cgroup_root, membership):
        quota, period = file.read_text().split()
        if quota != "max":
            cores = min(cores, int(quota) / int(period))
    return max(int(cores), 1)


def _limits(root: Path, membership: Path) -> list[Path]:
    """`cpu.max` of our cgroup and of all above it: each may be the narrowest."""
    if not membership.is_file():
        return []
    path = next((line[3:] for line in membership.read_text().splitlines() if line.startswith("0::")), "/")
    group = Path(path.strip("/"))
    return [file for part in (group, *group.parents) if (file := root / part / "cpu.max").is_file()]
