"""Runs `halfdepth loadtest faults`: breaks a service under load in every way of the table, and counts."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated

from tqdm import tqdm

from loadtest.process import LoadTestError, sigterm_raised
from loadtest.record import record
from loadtest.torture import files, limits, processes, runs
from loadtest.torture.fault import Outcome, do, warm_up
from loadtest.torture.questions import Question, questions
from loadtest.torture.target import Target
from models.tasks.errors import UsageError, run_command
from models.tasks.options import Flag, Options, read_options
from models.tasks.remote.client import Client

FAULTS = (*runs.FAULTS, *processes.FAULTS, *files.FAULTS, *limits.FAULTS)
PER_ROUTE = 4  # requests of each route that differ


@dataclass(frozen=True, slots=True, kw_only=True)
class FaultsOptions(Options):
    """Break a service under load, again and again, and count what became of every request. Runs on Linux only.

    It exits 1 unless every request was answered right, refused by a documented status, or cut off where the fault
    explains it; the metrics count the same; and threads, descriptors and memory are afterwards what they were.
    """

    bundles: Annotated[Path, Flag("directory of bundles, two of them for one task", metavar="DIR")] = Path("bundles")
    times: Annotated[int, Flag("how often each fault is done", above=0)] = 20
    seconds: Annotated[float, Flag("of load before and after each, seconds", above=0)] = 0.5
    only: Annotated[tuple[str, ...], Flag("the faults whose names contain one of these", metavar="WORD")] = ()
    out: Annotated[Path, Flag("file of the record", metavar="FILE")] = Path("runs/faults.json")


def main(argv: Sequence[str] | None = None, *, prog: str = "python -m loadtest.torture.faults") -> int:
    return run_command(prog, run, prog, argv)


def run(prog: str, argv: Sequence[str] | None) -> None:
    """Print and write down what was counted. Raises: UsageError; LoadTestError if anything did not hold."""
    options = read_options(FaultsOptions, prog, argv)
    chosen = [fault for fault in FAULTS if not options.only or any(word in fault.name for word in options.only)]
    if not chosen:
        raise UsageError(f"no fault has such a name; the faults are: {', '.join(fault.name for fault in FAULTS)}")
    outcomes = [Outcome(fault.name) for fault in chosen]
    with sigterm_raised(), TemporaryDirectory() as scratch:
        target = Target.of(options.bundles, Path(scratch))
        try:
            target.start()
            asked: Sequence[Question] = questions(Client(target.url), PER_ROUTE, seed=0)
            warm_up(target, asked)
            for fault, outcome in zip(tqdm(chosen, unit="fault"), outcomes, strict=True):
                before = target.holdings()
                for number in range(options.times):
                    try:
                        asked = do(fault, target, asked, outcome, before=before, number=number, seconds=options.seconds)
                    except LoadTestError as error:
                        outcome.failures.append(f"{fault.name}, number {number}: {error}")
                    if outcome.failures:  # what came next would tell of this one
                        target.stop()
                        target.start()
                        warm_up(target, asked)
                        break
                record("faults", [outcome.row() for outcome in outcomes if outcome.times]).write(options.out)
        finally:
            target.stop()
    sys.stdout.write(table(outcomes))
    if failures := [text for outcome in outcomes for text in outcome.failures]:
        raise LoadTestError("; ".join(failures))


def table(outcomes: Sequence[Outcome]) -> str:
    width = max(len(outcome.name) for outcome in outcomes)
    lines = [f"{'fault':{width}}  times   sent  right  refused  closed  wrong  hang"]
    for outcome in outcomes:
        refused = ", ".join(f"{number} x {code}" for code, number in sorted(outcome.refused.items()))
        notes = "; ".join([*filter(None, [refused]), *(f"{note}: {number}" for note, number in outcome.notes.items())])
        lines.append(
            f"{outcome.name:{width}}  {outcome.times:5}  {outcome.sent:5}  {outcome.right:5}  "
            f"{outcome.refused.total():7}  {outcome.closed:6}  {outcome.wrong:5}  {outcome.hung:4}  {notes}".rstrip()
        )
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.exit(main())
