"""Turns Locust's statistics into rows; names of its entries are joined from their parts."""

from typing import Any

from loadtest.users.measured import ALL, PERCENTS, Failure, Kind, Measured, Times, percentile_name
from loadtest.users.plan import Plan
from loadtest.users.shapes import SHAPES

# In Locust's column of methods.
STAGE, PHASE, REPLICA, REPLICA_STAGE, CLIENT = "STAGE", "PHASE", "REPLICA", "REPLICA STAGE", "CLIENT"
KINDS: dict[str, Kind] = {"POST": "request", STAGE: "stage", PHASE: "phase"}
KINDS |= {REPLICA: "replica", REPLICA_STAGE: "replica stage", CLIENT: "client"}
ORDER = list(KINDS.values())
LATE = "the client, late"
SEPARATOR = " · "


def joined(*parts: str) -> str:
    return SEPARATOR.join(parts)


def measured(stats: Any, plan: Plan) -> Measured:  # Locust's RequestStats, whose module patches the standard library
    """Read the entries of all processes; a phase's rate counts its own time."""
    durations = {phase.name: phase.duration * plan.seconds for phase in SHAPES[plan.shape]}
    times = [
        _times(entry, KINDS[method], name.split(SEPARATOR), durations, plan.seconds)
        for (name, method), entry in stats.entries.items()
    ]
    paths = plan.paths
    places = {path: place for place, path in enumerate(paths)}
    times.sort(key=lambda row: (places.get(row.route, len(paths)), ORDER.index(row.kind)))
    total = _times(stats.total, "total", [ALL], durations, plan.seconds)
    failures = [
        Failure(error.name, _code(str(error.error)), _text(str(error.error)), error.occurrences)
        for error in stats.errors.values()
    ]
    return Measured([total, *times], sorted(failures, key=lambda failure: (failure.route, -failure.count)))


def _times(entry: Any, kind: Kind, parts: list[str], durations: dict[str, float], seconds: float) -> Times:
    route, part, replica = (*parts, "", "")[:3]
    if kind == "replica":
        part, replica = "", part
    percentiles = {percentile_name(percent): entry.get_response_time_percentile(percent / 100) for percent in PERCENTS}
    return Times(
        kind=kind,
        route=route,
        part=part,
        replica=replica,
        requests=entry.num_requests,
        failures=entry.num_failures,
        rate_per_s=entry.num_requests / durations.get(part, seconds),
        mean_ms=entry.avg_response_time,
        max_ms=entry.max_response_time,
        **{name: float(value) for name, value in percentiles.items()},
    )


def _text(error: str) -> str:
    """Cut what Locust's representation of an exception adds to its text."""
    return error.removeprefix("CatchResponseError(").removesuffix(")").strip("'\"")


def _code(error: str) -> str:
    """Find the status in a failure that asker.py logged, behind its first word; `none` is no answer."""
    word = _text(error).partition(": ")[2].partition(" ")[0].rstrip(":")
    return word if word.isdecimal() else "none"
