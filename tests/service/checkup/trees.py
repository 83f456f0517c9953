"""Trees of files as the kernel shows them under /proc and /sys/fs/cgroup, of machines that are not here."""

from collections.abc import Mapping
from pathlib import Path

from service.checkup.finding import System
from service.startup.cgroups import Cgroups

QUIET = {
    "cpuinfo": "model name\t: Model X\nflags\t\t: avx2 avx512f avx512_vnni\n",
    "loadavg": "0.01 0.02 0.03 1/99 1234\n",
    "pressure/cpu": "some avg10=0.50 avg60=1.00 avg300=2.00 total=1\n",
    "meminfo": "MemTotal: 8000000 kB\nMemAvailable: 4000000 kB\n",
    "self/status": "Name:\tpython\nVmRSS:\t  300000 kB\n",
    "self/cgroup": "0::/\n",
}


def system(root: Path, proc: Mapping[str, str | None] | None = None, cgroup: Mapping[str, str] | None = None) -> System:
    """A quiet machine with VNNI and 4 GB to spare, with these files instead; None leaves one out."""
    for name, content in (QUIET | dict(proc or {})).items():
        if content is not None:
            write(root / "proc" / name, content)
    for name, content in (cgroup or {}).items():
        write(root / "cgroup" / name, content)
    return System(root / "proc", Cgroups(root / "cgroup", root / "proc" / "self" / "cgroup"))


def write(path: Path, content: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content)
