"""Runs the parts of a report, each as a command of its own that leaves its record."""

import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from loadtest.process import python_environment, python_module
from loadtest.record import Record, RecordError, read_record
from loadtest.report.document import Report, checked, report_of

TAIL = 2000  # bytes kept of what a command says on stderr


@dataclass(frozen=True, slots=True)
class Part:
    """Describes a command `halfdepth loadtest NAME`. `short`: its arguments in the short form, None if it is left out.

    `reads_bundles`: it takes `--bundles`.
    """

    whole: Sequence[str]
    short: Sequence[str] | None
    reads_bundles: bool = False


PARTS: Mapping[str, Part] = {
    "grid": Part((), ("--short",), reads_bundles=True),
    "throughput": Part(
        ("--seconds", "1.5", "--rounds", "3"),
        ("--seconds", "1", "--rounds", "2", "--concurrency", "1", "4", "16"),
        reads_bundles=True,
    ),
    "peers": Part((), None, reads_bundles=True),
    "infinity": Part((), None),
    "table3": Part((), None),
}


def measure(names: Sequence[str], out: Path, *, short: bool, bundles: Path) -> Report:
    """Run the parts one after another; what fails is noted as missing, and the others go on."""
    records: list[Record] = []
    missing: dict[str, str] = {}
    for name in names:
        part, path = PARTS[name], out / f"{name}.json"
        path.unlink(missing_ok=True)  # an older record would pass for this one
        arguments = (part.short or ()) if short else part.whole
        own_bundles = ("--bundles", str(bundles)) if part.reads_bundles else ()
        sys.stderr.write(f"{name}: halfdepth loadtest {name} {' '.join(arguments)}\n")
        status, tail = run([name, *arguments, *own_bundles, "--out", str(path)])
        if status != 0 and not path.exists():
            missing[name] = f"exit status {status}: {tail}"
            continue
        try:
            records.append(checked(read_record(path), path))
        except RecordError as error:
            missing[name] = str(error)
    return report_of(records, missing)


def run(arguments: Sequence[str]) -> tuple[int, str]:
    """Run `halfdepth loadtest`, and pass on what it says. Returns: its exit status, its last line on stderr."""
    command = [*python_module("halfdepth"), "loadtest", *arguments]
    tail = b""
    with subprocess.Popen(command, env=python_environment(), stderr=subprocess.PIPE) as process:
        assert process.stderr is not None
        try:
            while said := os.read(process.stderr.fileno(), 4096):  # as it comes: progress bars rewrite their line
                sys.stderr.write(said.decode(errors="replace"))
                sys.stderr.flush()
                tail = (tail + said)[-TAIL:]
        except BaseException:
            process.terminate()  # it ends what it has started
            raise
    lines = [line for line in tail.decode(errors="replace").replace("\r", "\n").split("\n") if line.strip()]
    return process.returncode, lines[-1].strip() if lines else "it said nothing"
