"""Writes down a measurement: its rows, with the machine, versions, commit and command that gave them."""

import json
import os
import platform
import shlex
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from loadtest.process import ROOT
from models.tasks.bundle import cpu_features
from models.tasks.errors import InputError, first_line

LIBRARIES = ("halfdepth", "onnxruntime", "tokenizers", "numpy", "fastapi", "uvicorn")
Row = Mapping[str, Any]  # names to texts, numbers, None, or lists of them; a unit is the name's suffix (p50_ms)


class RecordError(InputError):
    """A file is no measurement of ours; the text is one line that says what to do."""


@dataclass(frozen=True, slots=True)
class Machine:
    """Describes where a measurement was taken. `cores`: those that this process may use."""

    processor: str
    family_model: str  # tells generations apart whose names are cut short, as on clouds
    cores: int
    cpu_features: Sequence[str]
    memory_gb: float
    kernel: str


@dataclass(frozen=True, slots=True)
class Record:
    """Holds one measurement. `part` says which (`grid`, `peers`); `command` gives it again; `date` is in UTC."""

    part: str
    command: str
    date: str
    commit: str
    machine: Machine
    versions: Mapping[str, str]
    rows: Sequence[Row]

    def write(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(asdict(self), indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def record(part: str, rows: Sequence[Row], argv: Sequence[str] | None = None) -> Record:
    """Make the record of rows that were measured just now. `argv`: the command, by default this process's own."""
    command = shlex.join([*program(), *sys.argv[1:]] if argv is None else argv)
    date = datetime.now(UTC).isoformat(timespec="seconds")
    return Record(part, command, date, commit(), machine(), versions(), rows)


def program() -> list[str]:
    """Say how this process was started: by its name, or as a module."""
    path = Path(sys.argv[0])
    spec = getattr(sys.modules["__main__"], "__spec__", None)
    if spec is None or path.stem == "halfdepth":
        return [path.stem]
    return ["python", "-m", spec.name.removesuffix(".__main__")]


def read_record(path: Path) -> Record:
    """Raises: RecordError."""
    try:
        fields = json.loads(path.read_text(encoding="utf-8"))
        return Record(**{**fields, "machine": Machine(**fields["machine"])})
    except (OSError, ValueError, TypeError, KeyError) as error:
        message = f"{path} is not a measurement of `halfdepth loadtest` or `make bench`: {first_line(error)}"
        raise RecordError(message) from error


def machine() -> Machine:
    """Describe this machine. Runs on Linux only."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    pairs = (line.partition(":") for line in reversed(lines))
    fields = {name.strip(): value.strip() for name, _, value in pairs}
    return Machine(
        processor=fields.get("model name", platform.machine()),
        family_model=f"{fields.get('cpu family', '?')}/{fields.get('model', '?')}",
        cores=len(os.sched_getaffinity(0)),
        cpu_features=list(cpu_features()),
        memory_gb=round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9, 1),
        kernel=platform.release(),
    )


def versions(libraries: Sequence[str] = LIBRARIES) -> dict[str, str]:
    """Look up the installed versions, Python's among them."""
    found = {"python": platform.python_version()}
    for library in libraries:
        try:
            found[library] = version(library)
        except PackageNotFoundError:
            continue
    return found


def commit() -> str:
    """Name the commit of this checkout, with `+` where files differ from it, or "unknown" outside a repository."""
    command = ["git", "-C", str(ROOT), "describe", "--always", "--exclude", "*", "--abbrev=12", "--dirty=+"]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    return result.stdout.strip() or "unknown"
