"""The service as a process of its own, and what it takes of the machine."""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from time import perf_counter

TICKS = os.sysconf("SC_CLK_TCK")


@contextmanager
def service(bundles: Path, **settings: str) -> Iterator[tuple[subprocess.Popen[bytes], str, float]]:
    """On a free port: the process, its URL, and the seconds from its start until it listened. Its log is dropped.

    Raises: RuntimeError if it does not start.
    """
    variables = {"BUNDLES": str(bundles), "PORT": "0", "LOG_FORMAT": "json"} | settings
    environment = os.environ | {f"HALFDEPTH_{name}": value for name, value in variables.items()}
    began = perf_counter()
    process = subprocess.Popen([sys.executable, "-m", "service"], env=environment, stderr=subprocess.PIPE)
    assert process.stderr
    reader = None
    try:
        with process.stderr as log:
            url = next((found for line in log if (found := re.search(rb"http://[\d.]+:\d+", line))), None)
            if url is None:
                raise RuntimeError("the service ended before it listened; start it with `make serve` to see why")
            ready = perf_counter() - began
            reader = subprocess.Popen(["cat"], stdin=log, stdout=subprocess.DEVNULL)  # a full pipe would stop it
        yield process, url[0].decode(), ready
    finally:
        process.terminate()
        process.wait()
        if reader is not None:
            reader.wait()


def resident_mb(pid: int) -> float:
    """Resident memory, megabytes. Linux alone."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def cpu_seconds(pid: int) -> float:
    """CPU time of all threads until now. Linux alone."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS
