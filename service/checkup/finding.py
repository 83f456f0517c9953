"""Says what a check of the doctor found, and what to do about it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from service.startup.cgroups import Cgroups

Status = Literal["ok", "note", "act"]
"""All is well; something to know; something needs doing."""


NOTHING = "Nothing needs doing."


@dataclass(frozen=True, slots=True)
class Finding:
    """Holds one finding. `values`: its figures for programs, with units in their names."""

    subject: str
    status: Status
    text: str
    advice: str = NOTHING
    values: Mapping[str, Any] = field(default_factory=dict)  # numbers, texts and lists of them


@dataclass(frozen=True, slots=True)
class System:
    """Names where the kernel tells of this machine and of this process."""

    proc: Path = Path("/proc")
    cgroups: Cgroups = field(default_factory=Cgroups)


def fields_of(file: Path) -> dict[str, str]:
    """Read a file of lines `name: value`, the first of each name; one that cannot be read has none."""
    try:
        lines = file.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return {}
    pairs = (line.partition(":") for line in reversed(lines))
    return {name.strip(): value.strip() for name, _, value in pairs}


def bytes_of(fields: Mapping[str, str], name: str) -> int | None:
    """Read a size that the kernel tells in kB."""
    return int(fields[name].split()[0]) * 1024 if name in fields else None


def megabytes(size: float) -> str:
    """Write a number of bytes for people."""
    return f"{size / 1e9:.1f} GB" if size >= 1e9 else f"{size / 1e6:.0f} MB"
