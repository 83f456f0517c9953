"""Divides the input of a batch into pieces for the nodes of a cluster."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from service.settings import Settings

CHUNK = 1024 * 1024
LINES = 256  # of a piece, so that what a piece costs by itself is little for each


@dataclass(frozen=True, slots=True)
class Work:
    """What every node needs to know. `bundles`: what it must have, as `bundles_of` says it."""

    source: Path
    settings: Settings
    route: str | None
    timings: bool
    bundles: list[list[str]]


def pieces(path: Path, *, skip: int, lines: int = LINES) -> Iterator[dict[str, int]]:
    """Tell where each piece behind the first `skip` lines begins, in bytes, and how many lines it may have."""
    number = position = 0
    begins_line = True
    with path.open("rb") as file:
        while part := file.readline(CHUNK):
            if begins_line and number >= skip and (number - skip) % lines == 0:
                yield {"offset": position, "lines": lines}
            position += len(part)
            begins_line = part.endswith(b"\n")
            number += begins_line
