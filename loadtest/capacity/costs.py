"""Holds what requests cost, measured or estimated, for lengths between the measured ones too."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from loadtest.capacity.mix import Kind, MixError
from loadtest.record import Row
from loadtest.routes import Route

PART = "costs"
WINDOW_TOKENS = 384
HTTP_MS = (
    0.4  # of the service's core, beside what /info tells of a window; docs/serving.md, "How fast"; not measured here
)
STEADY = (1.0,)


@dataclass(frozen=True, slots=True)
class Cost:
    """Holds what a request costs a replica.

    `busy_ms`: milliseconds of one core under load, HTTP included. `lone_ms`: how long it takes a replica that has
    nothing else to do, on all its cores. `overhead_ms`: what its caller sees beyond that and no core of the replica
    works for: the client, the network. `windows`: parts that run side by side. `ratios`: what one request after the
    other took, as multiples of the median.
    """

    lone_ms: float
    busy_ms: float
    overhead_ms: float
    windows: int = 1
    ratios: Sequence[float] = STEADY


@dataclass(frozen=True, slots=True)
class CostTable:
    """Holds the rows of a record of costs."""

    rows: Sequence[Row]

    def cores(self) -> list[int]:
        """List the sizes of replicas that were measured."""
        return sorted({int(row["cores"]) for row in self.rows})

    def cost(self, kind: Kind, cores: int) -> Cost:
        """Find the cost of a kind, between two measured lengths in proportion; on more cores than were measured, a core
        is taken to do as much as there. Raises: MixError if it cannot be told.
        """
        nearest = max((measured for measured in self.cores() if measured <= cores), default=self.cores()[0])
        rows = sorted(
            (
                row
                for row in self.rows
                if (row["route"], row["items"], row["cores"]) == (kind.route, kind.items, nearest)
            ),
            key=lambda row: float(row["tokens"]),
        )
        lengths = [float(row["tokens"]) for row in rows]
        if not rows:
            items = f" with {kind.items} items" if kind.items > 1 else ""
            raise MixError(f"there are no costs of {kind.route}{items}; measure them with this mix, or leave it out")
        if len(rows) == 1 and kind.tokens != rows[0]["tokens"]:
            raise MixError(
                f"the costs of {kind.route} are known at {lengths[0]:g} tokens alone, and not at {kind.tokens}"
            )
        ratios = rows[int(np.argmin([abs(length - kind.tokens) for length in lengths]))].get("ratios") or STEADY
        return Cost(
            lone_ms=_between(lengths, [row["lone_ms"] for row in rows], kind.tokens),
            busy_ms=_between(lengths, [row["busy_ms"] for row in rows], kind.tokens),
            overhead_ms=_between(lengths, [row["overhead_ms"] for row in rows], kind.tokens),
            windows=max(round(_between(lengths, [row["windows"] for row in rows], kind.tokens)), 1),
            ratios=ratios,
        )

    def lines(self) -> dict[tuple[str, int], tuple[float, float, float]]:
        """Fit a line through what requests cost by their tokens: for a route and a size of replicas, milliseconds of
        a request, of a token, and the largest distance of a measured length from the line as a share.
        """
        fits = {}
        for route, cores in sorted({(str(row["route"]), int(row["cores"])) for row in self.rows}):
            rows = [row for row in self.rows if (row["route"], row["cores"]) == (route, cores)]
            tokens = np.array([row["tokens"] * row["items"] for row in rows], float)
            busy = np.array([row["busy_ms"] for row in rows], float)
            if len(set(tokens)) > 1:
                slope, fixed = np.polyfit(tokens, busy, 1)
                fits[route, cores] = (
                    float(fixed),
                    float(slope),
                    float(np.max(np.abs(fixed + slope * tokens - busy) / busy)),
                )
        return fits


def table_of(rows: Sequence[Row]) -> CostTable:
    """Raises: MixError if rows are not what a measurement of costs writes."""
    for row in rows:
        for name in ("tokens", "items", "cores", "windows", "lone_ms", "busy_ms", "overhead_ms"):
            value = row.get(name)
            if isinstance(value, bool) or not isinstance(value, int | float) or value < 0:
                raise MixError(f"a row of the costs has no {name}: {row.get('route')}, {row.get('tokens')} tokens")
    if not rows:
        raise MixError("the file of costs has no rows")
    return CostTable(rows)


def estimated(info: Mapping[str, Any], routes: Sequence[Route], kinds: Sequence[Kind]) -> CostTable:
    """Take the costs that the service estimates by itself (`/info`), without loading it.

    They hold no spread, so that tails come from waiting alone. Raises: MixError if a route is not there.
    """
    tasks = {route.path: route.task for route in routes}
    lines = {bundle["task"]: bundle["cost"] for bundle in reversed(info["bundles"]) if bundle["default"]}
    rows = []
    for kind in kinds:
        if tasks.get(kind.route) not in lines:
            raise MixError(f"the service has no {kind.route}, or no bundle for it; it has {', '.join(tasks)}")
        line = lines[tasks[kind.route]]
        windows = kind.items * -(-kind.tokens // WINDOW_TOKENS)
        busy = HTTP_MS + line["fixed_ms"] * windows + line["ms_per_token"] * kind.tokens * kind.items
        measured = {"lone_ms": busy, "busy_ms": busy, "overhead_ms": 0.0, "windows": windows, "ratios": list(STEADY)}
        rows.append({"route": kind.route, "tokens": kind.tokens, "items": kind.items, "cores": 1, **measured})
    return CostTable(rows)


def _between(lengths: Sequence[float], values: Sequence[float], tokens: float) -> float:
    """Interpolate; beyond the ends, along the line of the last two lengths, and never below 0."""
    if len(lengths) == 1:
        return float(values[0])
    right = int(np.clip(np.searchsorted(lengths, tokens), 1, len(lengths) - 1))
    share = (tokens - lengths[right - 1]) / (lengths[right] - lengths[right - 1])
    return max(float(values[right - 1] + share * (values[right] - values[right - 1])), 0.0)
