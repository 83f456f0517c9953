"""Reads service level objectives, such as `qa.p99<30ms` and `errors<0.1%`, and checks them.

    objective  = [ route "." [ stage "." ] ] measure comparison number unit
    route      = a path without its first slash: qa, v1/embeddings; without one, all requests count
    stage      = queue | tokenization | inference | inference_wall | postprocess | total
    measure    = p50 | p90 | p95 | p99 | p99.9 | mean | max     a time: unit us, ms or s
               | errors | refused                               a share of the requests (unit %), or a number of them
               | requests                                       a number of requests
               | rate                                           requests a second: unit /s
    comparison = < | <= | > | >=

Blanks may stand around the comparison. `refused` counts answers 503 and 504, `errors` every failure.
"""

import operator
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from loadtest.users.measured import ALL, STAGES, Measured, Times
from models.tasks.errors import UsageError

COMPARISONS: Mapping[str, Callable[[float, float], bool]] = {
    "<=": operator.le,
    ">=": operator.ge,
    "<": operator.lt,
    ">": operator.gt,
}
TIMES = {"p50": "p50_ms", "p90": "p90_ms", "p95": "p95_ms", "p99": "p99_ms", "p99.9": "p99_9_ms"}
TIMES |= {"mean": "mean_ms", "max": "max_ms"}
COUNTS = ("errors", "refused", "requests")
MILLISECONDS = {"us": 1e-3, "ms": 1.0, "s": 1e3}
UNITS: Mapping[str, Sequence[str]] = {
    **dict.fromkeys(TIMES, tuple(MILLISECONDS)),
    "errors": ("%", ""),
    "refused": ("%", ""),
    "requests": ("",),
    "rate": ("/s",),
}
REFUSED = ("503", "504")
FORM = re.compile(
    r"\s*(?:/?(?P<route>[\w/-]+)\.)?(?:(?P<stage>[a-z_]+)\.)?(?P<measure>p\d+(?:\.\d+)?|[a-z]+)"
    r"\s*(?P<comparison><=|>=|<|>)\s*(?P<number>\d+(?:\.\d+)?)\s*(?P<unit>[a-z/%]*)\s*"
)
EXAMPLE = "an objective looks like qa.p99<30ms, qa.tokenization.p95<1ms, errors<0.1% or rate>100/s"


@dataclass(frozen=True, slots=True)
class Objective:
    """Bounds one figure. `route` is a path, or None for all requests; `bound` is in the figure's `unit`."""

    text: str
    route: str | None
    stage: str | None
    measure: str
    comparison: str
    bound: float
    unit: str

    @property
    def shown_unit(self) -> str:
        """The unit in which the figure and the bound are told."""
        return "ms" if self.measure in TIMES else self.unit


def read_objective(text: str) -> Objective:
    """Raises: UsageError, which says what does not parse."""
    match = FORM.fullmatch(text)
    if match is None:
        raise UsageError(f"--slo {text!r} does not parse; {EXAMPLE}")
    route, stage, measure, comparison, number, unit = match.groups()
    if measure not in UNITS:
        raise UsageError(f"--slo {text!r}: {measure!r} is not measured; there are {', '.join(UNITS)}")
    if unit not in UNITS[measure]:
        wanted = " or ".join(unit or "no unit" for unit in UNITS[measure])
        raise UsageError(f"--slo {text!r}: {measure} takes {wanted}, not {unit or 'a bare number'}")
    if stage is not None and stage not in STAGES:
        raise UsageError(f"--slo {text!r}: {stage!r} is not a stage; there are {', '.join(STAGES)}")
    if stage is not None and measure not in TIMES:
        raise UsageError(f"--slo {text!r}: a stage has only times ({', '.join(TIMES)})")
    path = None if route is None else f"/{route.strip('/')}"
    return Objective(text.strip(), path, stage, measure, comparison, float(number) * MILLISECONDS.get(unit, 1.0), unit)


def check_routes(objectives: Sequence[Objective], paths: Sequence[str]) -> None:
    """Raises: UsageError if an objective is for a route that is not loaded."""
    for objective in objectives:
        if objective.route not in (None, *paths):
            names = ", ".join(path.strip("/") for path in paths)
            raise UsageError(f"--slo {objective.text!r}: {objective.route} is not loaded; the routes are {names}")


@dataclass(frozen=True, slots=True)
class Verdict:
    """Says of an objective what was measured (None: nothing was), and whether it is kept."""

    objective: Objective
    figure: float | None
    is_kept: bool

    def __str__(self) -> str:
        unit = self.objective.shown_unit
        if self.figure is None:
            return f"SLO broken: {self.objective.text}: nothing was measured"
        measured = f"{self.objective.text}: measured {self.figure:.4g}{unit}"
        if self.is_kept:
            return f"SLO kept: {measured}"
        distance = abs(self.figure - self.objective.bound)
        times = f", {self.figure / self.objective.bound:.3g} times the bound" if self.objective.bound else ""
        return f"SLO broken: {measured}, {distance:.4g}{unit} beyond the bound{times}"


def judge(objective: Objective, measured: Measured) -> Verdict:
    """Compare the figure with its bound; nothing measured breaks the bound of a time or a share."""
    figure = _figure(objective, measured)
    is_kept = figure is not None and COMPARISONS[objective.comparison](figure, objective.bound)
    return Verdict(objective, figure, is_kept)


def _figure(objective: Objective, measured: Measured) -> float | None:
    times = _times(objective, measured)
    requests = times.requests if times else 0
    if objective.measure in COUNTS and objective.unit == "":
        return float(requests if objective.measure == "requests" else _failures(objective, measured))
    if objective.measure == "rate":
        return times.rate_per_s if times else 0.0
    if times is None or not requests:
        return None
    if objective.measure in TIMES:
        return float(getattr(times, TIMES[objective.measure]))
    return 100 * _failures(objective, measured) / requests


def _times(objective: Objective, measured: Measured) -> Times | None:
    if objective.route is None:
        wanted = ("total", ALL, "")
    else:
        wanted = ("stage" if objective.stage else "request", objective.route, objective.stage or "")
    return next((row for row in measured.times if (row.kind, row.route, row.part) == wanted), None)


def _failures(objective: Objective, measured: Measured) -> int:
    return sum(
        failure.count
        for failure in measured.failures
        if objective.route in (None, failure.route) and (objective.measure == "errors" or failure.code in REFUSED)
    )
