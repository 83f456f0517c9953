"""Sets each peer beside us: the same task, connections and, where we ran it too, the same model."""

from collections.abc import Sequence
from dataclasses import dataclass

from loadtest.record import Row
from loadtest.report.rows import number

OURS = ("halfdepth", "ours")
OUR_BUNDLE = "our bundle"
ALONE = 1  # connection, where latency is compared; else requests a second


@dataclass(frozen=True, slots=True)
class Ratio:
    """Holds one comparison. `times`: how many times as fast as we are the peer is; above 1 it is ahead."""

    peer: str
    task: str
    model: str
    concurrency: int
    metric: str
    value: float
    ours: float

    @property
    def times(self) -> float:
        return self.ours / self.value if self.concurrency == ALONE else self.value / self.ours

    @property
    def is_fair(self) -> bool:
        """Tell whether both ran our bundle, so that servers are compared and not models."""
        return self.model == OUR_BUNDLE


def is_ours(row: Row) -> bool:
    return str(row.get("peer", "")).lower().startswith(OURS)


def ratios(rows: Sequence[Row]) -> list[Ratio]:
    """Compare every peer: p50 where one connection is busy, and requests a second where more are."""
    return [ratio for row in rows if (ratio := ratio_of(row, rows)) is not None]


def ratio_of(row: Row, rows: Sequence[Row]) -> Ratio | None:
    """Compare one row; None if it is ours, or was not measured."""
    concurrency = number(row, "concurrency")
    if is_ours(row) or concurrency is None:
        return None
    metric, title = ("p50_ms", "p50") if concurrency == ALONE else ("requests_per_s", "requests/s")
    value, baseline = number(row, metric), _baseline(rows, row)
    # Our rounds beside the peer's own, where they were noted: a slow minute of the machine meets both.
    ours = number(row, f"ours_{metric}") or (None if baseline is None else number(baseline, metric))
    if not value or not ours:
        return None
    names = str(row.get("peer")), str(row.get("task")), str(row.get("model"))
    return Ratio(*names, int(concurrency), title, value, ours)


def beside_ours(rows: Sequence[Row]) -> list[Row]:
    """Add to each row how many times as fast as we are the peer is (`times_ours`)."""
    found = [(row, ratio_of(row, rows)) for row in rows]
    return [{**row, "times_ours": None if ratio is None else round(ratio.times, 3)} for row, ratio in found]


def failures(rows: Sequence[Row]) -> dict[str, str]:
    """Say why peers could not be measured."""
    return {str(row["peer"]): str(row["reason"]) for row in rows if row.get("reason") and row.get("peer")}


def _baseline(rows: Sequence[Row], peer: Row) -> Row | None:
    """Find our own row for the same work; with the same model if we ran that, or else with our bundle."""
    same = [
        row for row in rows if is_ours(row) and all(row.get(name) == peer.get(name) for name in ("task", "concurrency"))
    ]
    for model in (peer.get("model"), OUR_BUNDLE):
        for row in same:
            if row.get("model") == model:
                return row
    return None
