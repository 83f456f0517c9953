"""Limits a process by a control group of its own, of version 1 or 2."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4

CGROUPS, PROC = Path("/sys/fs/cgroup"), Path("/proc")

Limit = tuple[str, str]
"""A file of a control group, named after its controller (`memory.max`), and what to write into it."""


@contextmanager
def cgroup(pid: int, *, version_1: Limit, version_2: Limit) -> Iterator[bool]:
    """Keep a process in a new group with this limit until the end of the block. Yields False where none can be made."""
    folder = _join(pid, version_1, version_2)
    if folder is None:
        yield False
        return
    try:
        yield True
    finally:
        if (PROC / str(pid)).is_dir():
            (folder.parent / "cgroup.procs").write_text(str(pid))
        folder.rmdir()


def _join(pid: int, version_1: Limit, version_2: Limit) -> Path | None:
    """Make a group under the process's own one, or else under the root, and move the process there."""
    for parent, (name, value) in _parents(pid, version_1, version_2):
        folder = parent / f"halfdepth-{uuid4().hex}"
        try:
            folder.mkdir()
        except OSError:
            continue
        try:
            (folder / name).open("r+").close()  # is the controller there?
            (folder / name).write_text(value)
            (folder / "cgroup.procs").write_text(str(pid))
        except OSError:
            folder.rmdir()
        else:
            return folder
    return None


def _parents(pid: int, version_1: Limit, version_2: Limit) -> Iterator[tuple[Path, Limit]]:
    controller = version_1[0].partition(".")[0]
    for line in (PROC / str(pid) / "cgroup").read_text().splitlines():
        _, controllers, group = line.split(":", 2)
        if not controllers or controller in controllers.split(","):
            root, limit = CGROUPS / controllers, version_1 if controllers else version_2
            yield from ((parent, limit) for parent in (root / group.lstrip("/"), root))
