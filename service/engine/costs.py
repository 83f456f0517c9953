"""Estimates what a window takes: a line from tokens to milliseconds, corrected by every run."""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean, linear_regression

from service.engine.policy import FIXED_MS, MS_PER_TOKEN, PACE_WEIGHT

LEAST_MS = 1e-3  # either part of a line, so that no cost is zero


@dataclass(slots=True)
class CostModel:
    """Milliseconds of one window on one core. `pace` follows the runs: 2.0 means that they take twice the line."""

    fixed_ms: float = FIXED_MS
    ms_per_token: float = MS_PER_TOKEN
    pace: float = 1.0

    def window_ms(self, tokens: float) -> float:
        return self.pace * (self.fixed_ms + self.ms_per_token * tokens)

    def learn(self, tokens: int, spent_ms: float) -> None:
        """Correct the pace by a run on one core. A lost update does no harm, so that worker threads need no lock."""
        expected_ms = self.fixed_ms + self.ms_per_token * tokens
        self.pace += PACE_WEIGHT * (spent_ms / expected_ms - self.pace)


def fit(tokens: Sequence[int], milliseconds: Sequence[float]) -> CostModel:
    """Return the least-squares line through runs of two lengths at least, with neither part below a microsecond."""
    slope = max(linear_regression(tokens, milliseconds).slope, LEAST_MS)
    return CostModel(fixed_ms=max(fmean(milliseconds) - slope * fmean(tokens), LEAST_MS), ms_per_token=slope)
