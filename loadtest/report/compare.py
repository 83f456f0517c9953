"""Runs `halfdepth loadtest compare A.json B.json`: tells what became worse beyond the measured noise."""

import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from loadtest.record import Machine, Record, RecordError, Row
from loadtest.report.document import Report, read_report
from models.tasks.errors import run_command
from models.tasks.options import Flag, Options, read_options

SAME_MACHINE = ("processor", "family_model", "cores", "cpu_features")
KEYS = ("threads", "tokens", "concurrency", "rate", "users", "cores", "targets")
"""Columns that hold numbers and yet say what was measured; a column of texts says that too, unless it is one of:"""
REMARKS = ("reason", "note", "ci_method")
LOW, HIGH, ROUNDS = "_ci_low", "_ci_high", "_rounds"
REGRESSED = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class CompareOptions(Options):
    """Compare two measurements: exits 1 if a row of the second is worse than in the first beyond the measured noise.

    A row is judged by what it carries of its own noise: the confidence interval of its median, or the rounds that it
    was measured in. It is worse if the two intervals do not touch (of rounds: if the best of the second is worse than
    the worst of the first) and the figures differ by more than --tolerance. A row that carries neither is listed, and
    not judged. Exits 2 if the files do not compare.
    """

    before: Annotated[Path, Flag("JSON of a report or of one measurement", positional=True, metavar="A.json")]
    after: Annotated[Path, Flag("the same, measured later", positional=True, metavar="B.json")]
    tolerance: Annotated[
        float, Flag("smaller differences never count: what two runs of the same code differ by, percent", at_least=0)
    ] = 5.0
    common: Annotated[bool, Flag("compare the rows that both have; else other rows are an error")] = False


@dataclass(frozen=True, slots=True)
class Figure:
    """Holds a measured value with the interval of its noise."""

    value: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Change:
    """Describes one figure before and after. `key`: the part and what was measured."""

    key: str
    metric: str
    before: Figure
    after: Figure

    @property
    def percent(self) -> float:
        """By how much it grew."""
        return (self.after.value / self.before.value - 1) * 100

    def is_worse(self, tolerance: float) -> bool:
        return self._grew(tolerance) if lower_is_better(self.metric) else self._shrank(tolerance)

    def is_better(self, tolerance: float) -> bool:
        return self._shrank(tolerance) if lower_is_better(self.metric) else self._grew(tolerance)

    def _grew(self, tolerance: float) -> bool:
        return self.after.low > self.before.high and self.percent > tolerance

    def _shrank(self, tolerance: float) -> bool:
        return self.after.high < self.before.low and self.percent < -tolerance

    def __str__(self) -> str:
        return (
            f"{self.key}  {self.metric}  {_shown(self.before)} -> {_shown(self.after)}  "
            f"{self.percent:+.1f}%, {self.after.value / self.before.value:.2f} times"
        )


def main(argv: Sequence[str] | None = None, *, prog: str = "python -m loadtest compare") -> int:
    return run_command(prog, run, prog, argv)


def run(prog: str, argv: Sequence[str] | None) -> int:
    """Return 1 if anything regressed. Raises: RecordError, UsageError."""
    options = read_options(CompareOptions, prog, argv)
    before, after = read_report(options.before), read_report(options.after)
    changes, unjudged = compare(before, after, common=options.common)
    worse = [change for change in changes if change.is_worse(options.tolerance)]
    better = [change for change in changes if change.is_better(options.tolerance)]
    for name, found in (("worse", worse), ("better", better)):
        for change in sorted(found, key=lambda change: -abs(change.percent)):
            sys.stdout.write(f"{name}: {change}\n")
    sys.stdout.write(
        f"{len(changes)} figures compared: {len(worse)} worse, {len(better)} better, "
        f"{len(changes) - len(worse) - len(better)} within the noise or {options.tolerance:g}%\n"
    )
    if unjudged:
        sys.stdout.write(f"rows without an interval or rounds, which are not judged: {unjudged}\n")
    return REGRESSED if worse else 0


def compare(before: Report, after: Report, *, common: bool) -> tuple[list[Change], int]:
    """Pair the figures of two reports. Returns: the changes, and how many rows could not be judged.

    Raises: RecordError if they do not compare.
    """
    parts = _shared(before.records, after.records, "parts", common=common)
    changes, unjudged = list[Change](), 0
    for part in parts:
        first, second = before.records[part], after.records[part]
        check_machine(part, first.machine, second.machine)
        rows, other_rows = keyed(first), keyed(second)
        for key in _shared(rows, other_rows, f"rows of {part}", common=common):
            figures, other_figures = dict(figures_of(rows[key])), dict(figures_of(other_rows[key]))
            unjudged += not (figures.keys() & other_figures.keys())
            changes += [
                Change(key, metric, figure, other_figures[metric])
                for metric, figure in figures.items()
                if metric in other_figures
            ]
    if not changes:
        raise RecordError("no figure can be judged: no row carries a confidence interval or rounds in both files")
    return changes, unjudged


def check_machine(part: str, before: Machine, after: Machine) -> None:
    """Raises: RecordError if two measurements come from different machines."""
    for name in SAME_MACHINE:
        first, second = getattr(before, name), getattr(after, name)
        if first != second:
            if not isinstance(first, str | int):
                first, second = (", ".join(sorted(extra)) for extra in ({*first} - {*second}, {*second} - {*first}))
            difference = f"{name.replace('_', ' ')} {first or 'none'}, then {second or 'none'}"
            raise RecordError(f"{part} was measured on two machines that differ: {difference}")


def keyed(record: Record) -> dict[str, Row]:
    """Find each row by what was measured. Raises: RecordError if two rows measured the same."""
    rows: dict[str, Row] = {}
    for row in record.rows:
        key = f"{record.part}: {described(row)}"
        if key in rows:
            raise RecordError(f"two rows are the same, so that neither can be compared: {key}")
        rows[key] = row
    return rows


def described(row: Row) -> str:
    """Say what a row measured."""
    texts = [value for name, value in row.items() if isinstance(value, str) and name not in REMARKS]
    numbers = [f"{row[name]} {name}" for name in KEYS if isinstance(row.get(name), int | float)]
    return ", ".join([*texts, *numbers])


def figures_of(row: Row) -> Iterator[tuple[str, Figure]]:
    """Find the figures that carry their noise: `x_p50_ms` has `x_ci_low_ms` and `x_ci_high_ms`, or `y` has `y_rounds`.

    Yields: the names with the figures.
    """
    for name, value in row.items():
        if name.endswith(ROUNDS) and _is_numbers(value) and _is_number(row.get(name.removesuffix(ROUNDS))):
            metric = name.removesuffix(ROUNDS)
            yield metric, Figure(row[metric], min(value), max(value))
        elif LOW in name:
            metric, high = name.replace(LOW, "_p50"), name.replace(LOW, HIGH)
            if all(map(_is_number, (value, row.get(metric), row.get(high)))):
                yield metric, Figure(row[metric], value, row[high])


def lower_is_better(metric: str) -> bool:
    """Tell it by the unit: what is done in a second shall be much, and everything else (times, memory) little."""
    return not metric.endswith("_per_s")


def _shared(before: Mapping[str, Any], after: Mapping[str, Any], what: str, *, common: bool) -> list[str]:
    """List the names that both have. Raises: RecordError if there is none, or one has others and `common` is false."""
    for first, second, place in ((before, after, "first"), (after, before, "second")):
        missing = [name for name in first if name not in second]
        if missing and not common:
            more = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
            raise RecordError(f"only the {place} file has these {what}: {missing[0]}{more}; --common compares the rest")
    names = [name for name in before if name in after]
    if not names:
        raise RecordError(f"the files have no {what} in common")
    return names


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and value > 0


def _is_numbers(value: object) -> bool:
    return isinstance(value, list) and len(value) > 1 and all(map(_is_number, value))


def _shown(figure: Figure) -> str:
    return f"{figure.value:.4g} ({figure.low:.4g} to {figure.high:.4g})"
