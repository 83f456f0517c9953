"""Builds a bundle beside its place and renames it there, so that a failure leaves the old one."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory, TemporaryFile

from export.checkpoint import ExportError
from models.tasks.bundle import MANIFEST, sha256_of
from models.tasks.manifest import FileRecord


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
    """Give a directory beside `out`, which takes its place when the block ends without an exception."""
    out.parent.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=out.parent, prefix=f".{out.name}-") as directory:
        stage, previous_bundle = Path(directory, "bundle"), Path(directory, "replaced")
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
