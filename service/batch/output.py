"""Keeps the output of a batch, and what it was made of, so that a killed run goes on where it was."""

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from models.tasks.directory.files import not_text
from models.tasks.errors import InputError

CHUNK = 1024 * 1024


class BatchError(InputError):
    """The files of a batch do not belong together, or a line was refused where none may be."""


def read_through(path: Path) -> tuple[str, int]:
    """Return the SHA-256 of a file, and how many lines it has. Raises: BatchError if it is not text, OSError."""
    digest, lines, last = hashlib.sha256(), 0, b"\n"
    with path.open("rb") as file:
        while chunk := file.read(CHUNK):
            if file.tell() == len(chunk) and (advice := not_text(chunk)):  # of the first
                raise BatchError(f"{path} {advice}")
            digest.update(chunk)
            lines += chunk.count(b"\n")
            last = chunk[-1:]
    return digest.hexdigest(), lines + (last != b"\n")


class Output:
    """Appends whole lines to a file. `done` is how many it had at the beginning.

    Beside it lies what it is made of, under its name with `.state`: the input, the bundles and the options.
    """

    def __init__(self, path: Path, made_of: Mapping[str, Any]) -> None:
        """Mend what a killed run has left. Raises: BatchError, if that was made of something else; OSError."""
        state = path.with_name(f"{path.name}.state")
        if not state.exists():
            if path.exists():
                raise BatchError(f"{path} exists, and no unfinished batch wrote it; remove it, or name another output")
            _write_whole(state, json.dumps(made_of, indent=1))
        changed = _changed(state, made_of)
        if changed:
            raise BatchError(
                f"{path} was begun with another {' and another '.join(changed)}; remove it and {state}, or name "
                "another output"
            )
        self._file = path.open("a+b")
        self.done, length = _whole_lines(path)
        self._file.truncate(length)

    def write(self, line: bytes) -> None:
        self._file.write(line + b"\n")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._file.close()


def _changed(state: Path, made_of: Mapping[str, Any]) -> list[str]:
    try:
        known = json.loads(state.read_text())
        return [name for name, value in json.loads(json.dumps(made_of)).items() if known.get(name) != value]
    except (ValueError, AttributeError):
        raise BatchError(f"{state} cannot be read; remove it and its output") from None


def _write_whole(path: Path, text: str) -> None:
    """Write a file that is never seen half written."""
    temporary = path.with_name(f"{path.name}.tmp")
    with temporary.open("w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)


def _whole_lines(path: Path) -> tuple[int, int]:
    """Return how many lines of a file are whole, and how many bytes they take."""
    lines = length = position = 0
    with path.open("rb") as file:
        while chunk := file.read(CHUNK):
            lines += chunk.count(b"\n")
            if (newline := chunk.rfind(b"\n")) >= 0:
                length = position + newline + 1
            position += len(chunk)
    return lines, length
