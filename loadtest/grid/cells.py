"""Measures the grid's cells over HTTP, in turns: a block of requests of each, round after round."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from time import perf_counter
from typing import Any

from tqdm import tqdm

from loadtest.bench.measurements import checked, percentile
from loadtest.connection import Connection
from loadtest.grid.interval import half_width, median_interval

STAGES = ("tokenization", "inference")
END_TO_END = "end_to_end"
PERCENTS = (50, 95, 99)


@dataclass(slots=True)
class Cell:
    """Holds the repeats of one request. `url`: of the service with so many threads.

    `note` says what a reader has to know of the row. A cell without a request has no graph, and the note says why.
    """

    task: str
    bundle: str
    precision: str
    threads: int
    tokens: int
    url: str
    request: bytes
    note: str = ""
    times: dict[str, list[float]] = field(default_factory=lambda: {name: [] for name in (*STAGES, END_TO_END)})
    usage: dict[str, Any] = field(default_factory=dict)  # as the service tells it

    @property
    def repeats(self) -> int:
        return len(self.times[END_TO_END])

    def row(self) -> dict[str, Any]:
        """Return the row of a record; figures are None where nothing was measured."""
        head: dict[str, Any] = {
            "task": self.task,
            "bundle": self.bundle,
            "precision": self.precision,
            "threads": self.threads,
            "tokens": self.tokens,
            "repeats": self.repeats,
        }
        for name, times in self.times.items():
            for percent in PERCENTS:
                figure = round(percentile(times, percent), 4) if times else None
                head[f"{name}_p{percent}_ms"] = figure
        low, high = median_interval(self.times[END_TO_END]) if self.repeats else (None, None)
        head |= {"end_to_end_ci_low_ms": low, "end_to_end_ci_high_ms": high}
        head |= {"end_to_end_ci_half_width": round(self.half_width(), 4) if self.repeats else None}
        head |= {name: self.usage.get(name) for name in ("tokens_used", "windows", "truncated")}
        return head | {"note": self.note if self.repeats else "", "reason": "" if self.repeats else self.note}

    def half_width(self) -> float:
        times = self.times[END_TO_END]
        return half_width(times, percentile(times, 50))


@dataclass(frozen=True, slots=True)
class Bounds:
    """Says when a cell is known well enough, and when the whole ends in any case.

    `share`: half the width of the median's interval over the median. `seconds`: of all rounds but the first, which is
    always completed. `block`: requests of a cell in a round, after `warm_up` that do not count.
    """

    share: float
    seconds: float
    block: int
    least: int
    warm_up: int = 2

    def is_known(self, cell: Cell) -> bool:
        return cell.repeats >= self.least and cell.half_width() <= self.share


def measure(cells: Sequence[Cell], bounds: Bounds) -> None:
    """Fill the cells. Raises: LoadTestError if the service refuses."""
    with tqdm(total=len(cells), unit="cell", desc="known well enough") as bar:
        for cell in _turns(cells, bounds):
            # The service closes a connection on which no request comes for a while, as between two turns.
            with Connection(cell.url) as connection:
                _ask_block(connection, cell, bounds)
            bar.update(bounds.is_known(cell))


def _turns(cells: Sequence[Cell], bounds: Bounds) -> Iterator[Cell]:
    """Choose the next cell: each once in a round, those that are known left out, until the time is over."""
    began = perf_counter()
    yield from cells
    while unknown := [cell for cell in cells if not bounds.is_known(cell)]:
        for cell in unknown:
            if perf_counter() - began > bounds.seconds:
                return
            yield cell


def _ask_block(connection: Connection, cell: Cell, bounds: Bounds) -> None:
    for _ in range(bounds.warm_up):
        checked(connection.ask(cell.request))
    for _ in range(bounds.block):
        answer = checked(connection.ask(cell.request))
        content = answer.json()
        cell.times[END_TO_END].append(answer.milliseconds)
        for stage in STAGES:
            cell.times[stage].append(content["timings_ms"][stage])
        cell.usage = content["usage"]
