"""Runs `halfdepth loadtest table3`: the DistilBERT paper's table 3, by a process with PyTorch."""

import json
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from loadtest.bench.measurements import say
from loadtest.process import LoadTestError, python_environment, python_module, sigterm_raised
from loadtest.record import Row, record
from models.tasks.errors import run_command
from models.tasks.options import Flag, Options, read_options

MEASUREMENT = "export.bench.table3"


@dataclass(frozen=True, slots=True, kw_only=True)
class Table3Options(Options):
    """Measure the DistilBERT paper's table 3: a pass over STS-B dev at batch 1 on this CPU.

    ELMo, BERT-base, DistilBERT and our students at full size with random weights, which do not change the time, beside
    the paper's seconds (another CPU: ratios compare). Needs the environment of `make train`.
    """

    data: Annotated[
        Path | None, Flag("table of pairs to take lengths from (default: those of STS-B dev)", metavar="FILE")
    ] = None
    slice: Annotated[
        int, Flag("pairs to read, every length in proportion; seconds are for all 1500", above=0, metavar="N")
    ] = 150
    threads: Annotated[int | None, Flag("threads (default: one for each core)", above=0)] = None
    out: Annotated[Path, Flag("file to write the rows into, as JSON", metavar="FILE")] = Path("runs/table3.json")


def main(argv: Sequence[str] | None = None, *, prog: str = "python -m loadtest.paper.table3") -> int:
    return run_command(prog, run, prog, argv)


def run(prog: str, argv: Sequence[str] | None) -> None:
    """Raises: LoadTestError if the measurement fails, UsageError; StoppedError after SIGTERM."""
    options = read_options(Table3Options, prog, argv)
    arguments: list[object] = ["--slice", options.slice]
    arguments += ["--data", options.data] if options.data else []
    arguments += ["--threads", options.threads] if options.threads else []
    with sigterm_raised():
        rows = measured([str(argument) for argument in arguments])
    say(table(rows))
    record("table3", rows).write(options.out)


def measured(arguments: Sequence[str]) -> list[Row]:
    """Run the measurement; what it says goes to this process's standard error."""
    command = [*python_module(MEASUREMENT), *arguments]
    with subprocess.Popen(command, env=python_environment(), stdout=subprocess.PIPE, text=True) as process:
        try:
            output, _ = process.communicate()
        except BaseException:
            process.terminate()
            raise
    if process.returncode:
        raise LoadTestError(f"python -m {MEASUREMENT} failed, and says above why")
    return [json.loads(line) for line in output.splitlines()]


def table(rows: Sequence[Row]) -> str:
    lines = ["model                        backend            parameters  seconds  of BERT-base  the paper's seconds"]
    base = max(row["seconds"] for row in rows if row["model"] == "BERT-base")
    for row in rows:
        lines.append(
            f"{row['model']:<28} {row['backend']:<18} {row['parameters_m']:9.1f}M  {row['seconds']:7.1f}"
            f"  {base / row['seconds']:11.2f}x  {row['paper_seconds'] or '':>19}"
        )
    first = rows[0]
    lines.append(
        f"a pass over {first['pairs']} pairs at batch 1, {first['pairs_read']} of them read and the seconds multiplied;"
        f" {first['threads']} threads, random weights"
    )
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
