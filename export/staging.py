"""Builds a bundle beside its place and renames it there, so that a failure leaves the old one."""

import fcntl
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory, TemporaryFile

from export.checkpoint import ExportError
from models.tasks.bundle import MANIFEST, sha256_of
from models.tasks.manifest import FileRecord

STAGE, REPLACED = "bundle", "replaced"  # all that stands in the directory of an export
RANDOM = "[a-z0-9_]{8}"  # what `tempfile` adds to a name


def check_replaceable(out: Path) -> None:
    """Refuse to replace anything but a bundle, and a place where nothing can be written. Raises: ExportError."""
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        with TemporaryFile(dir=out.parent):
            pass
    except OSError as error:
        raise ExportError(f"{out.parent} cannot be written ({error.strerror}); use a different --out") from error
    if out.exists() and not (out / MANIFEST).exists() and not (out.is_dir() and not any(out.iterdir())):
        raise ExportError(f"{out} exists and is not a bundle; remove it or use a different --out")


def file_records(stage: Path) -> tuple[FileRecord, ...]:
    """Describe every file of the stage but the manifest."""
    files = sorted(file for file in stage.rglob("*") if file.is_file() and file.name != MANIFEST)
    return tuple(
        FileRecord(path=file.relative_to(stage).as_posix(), bytes=file.stat().st_size, sha256=sha256_of(file))
        for file in files
    )


@contextmanager
def staging(out: Path) -> Iterator[Path]:
    """Give a directory beside `out`, which takes its place when the block ends without an exception.

    What exports to the same place have left there that were killed is cleared away first.
    """
    out.parent.mkdir(parents=True, exist_ok=True)
    clear_stages(out)
    with TemporaryDirectory(dir=out.parent, prefix=f".{out.name}-") as directory, locked(Path(directory)):
        stage, previous_bundle = Path(directory, STAGE), Path(directory, REPLACED)
        stage.mkdir()
        yield stage
        if out.exists():
            out.rename(previous_bundle)
        try:
            stage.rename(out)
        except OSError:
            if previous_bundle.exists():
                previous_bundle.rename(out)
            raise


def clear_stages(out: Path) -> None:
    """Remove the directories of exports to `out` that were killed. A bundle that one had moved goes back."""
    name = re.compile(rf"\.{re.escape(out.name)}-{RANDOM}")
    for directory in [path for path in out.parent.iterdir() if name.fullmatch(path.name) and path.is_dir()]:
        if not {path.name for path in directory.iterdir()} <= {STAGE, REPLACED}:
            continue
        try:
            with locked(directory):
                if (directory / REPLACED).exists() and not out.exists():
                    (directory / REPLACED).rename(out)
                shutil.rmtree(directory)
        except BlockingIOError:  # its export runs
            continue


@contextmanager
def locked(directory: Path) -> Iterator[None]:
    """Hold the lock of a directory, which ends with its process. Raises: BlockingIOError if somebody else holds it."""
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    finally:
        os.close(descriptor)
