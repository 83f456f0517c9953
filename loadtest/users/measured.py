"""Describes what a load test measured: rows of flat figures, by route, stage, phase and replica."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

Kind = Literal["total", "request", "stage", "phase", "replica", "replica stage", "client"]

ALL = "all routes"
STAGES = ("queue", "tokenization", "inference", "inference_wall", "postprocess", "total")
"""What the service's `Server-Timing` names."""
PERCENTS = (50.0, 90.0, 95.0, 99.0, 99.9)


def percentile_name(percent: float) -> str:
    """Return `p50_ms`, and `p99_9_ms` for 99.9."""
    return f"p{percent:g}_ms".replace(".", "_")


@dataclass(frozen=True, slots=True, kw_only=True)
class Times:
    """Holds the figures of one row. Times count every request, failed ones too.

    `part` is the stage, the phase or the replica that the row is of, or "" where it is of the whole request.
    """

    kind: Kind
    route: str
    part: str = ""
    replica: str = ""
    requests: int
    failures: int
    rate_per_s: float
    mean_ms: float
    max_ms: float
    p50_ms: float
    p90_ms: float
    p95_ms: float
    p99_ms: float
    p99_9_ms: float


@dataclass(frozen=True, slots=True)
class Failure:
    """Counts the failures of a route that have one code and one text."""

    route: str
    code: str
    text: str
    count: int


@dataclass(frozen=True, slots=True)
class Measured:
    """Holds what a load test measured. Row 0 of `times` is the total over all routes."""

    times: Sequence[Times]
    failures: Sequence[Failure]

    @property
    def total(self) -> Times:
        return self.times[0]

    def rows(self) -> list[dict[str, Any]]:
        """List flat rows, those of failures last: kind `failure`, and the code as the part."""
        rows: list[dict[str, Any]] = [asdict(times) for times in self.times]
        for failure in self.failures:
            row = {"kind": "failure", "route": failure.route, "part": failure.code, "text": failure.text}
            rows.append(row | {"failures": failure.count})
        return rows

    def content(self) -> dict[str, Any]:
        """Return what `read_measured` reads, as JSON takes it."""
        return asdict(self)


def read_measured(content: Mapping[str, Any]) -> Measured:
    """Make it again of its `content`."""
    return Measured(
        [Times(**times) for times in content["times"]], [Failure(**failure) for failure in content["failures"]]
    )


HEADER = f"{'':<40} {'requests':>8} {'failed':>7} {'per s':>8} {'p50 ms':>9} {'p95 ms':>9} {'p99 ms':>9} {'max ms':>9}"


def table(measured: Measured) -> str:
    """Write the rows under each other, then the skew of replicas, then failures by code."""
    lines = [HEADER]
    for times in measured.times:
        name = " · ".join(filter(None, (times.route, times.part, times.replica)))
        lines.append(
            f"{name:<40} {times.requests:>8} {times.failures:>7} {times.rate_per_s:>8.1f} {times.p50_ms:>9.3f} "
            f"{times.p95_ms:>9.3f} {times.p99_ms:>9.3f} {times.max_ms:>9.3f}"
        )
    lines += skew(measured)
    if measured.failures:
        lines += ["", "failures by code"]
        lines += [f"{item.count:>8}  {item.route}  {item.code}  {item.text}" for item in measured.failures]
    return "\n".join(lines) + "\n"


def skew(measured: Measured) -> list[str]:
    """Say for each route how unevenly its replicas were asked, and how far their medians lie apart."""
    lines = []
    replicas = [times for times in measured.times if times.kind == "replica"]
    for route in dict.fromkeys(times.route for times in replicas):
        rows = [times for times in replicas if times.route == route]
        shares = [times.requests / sum(row.requests for row in rows) for times in rows]
        medians = [times.p50_ms for times in rows]
        lines.append(
            f"{route}: {len(rows)} replicas took {min(shares):.0%} to {max(shares):.0%} of the requests; "
            f"their medians lie {max(medians) / min(medians):.2f} times apart"
        )
    return ["", *lines] if lines else []
