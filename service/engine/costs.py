"""Estimates what a window takes: a line from tokens to milliseconds, corrected by every run."""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean, linear_regression

from models.tasks.base import MAX_WINDOW_TOKENS
from service.engine.policy import ATTENTION_TOKENS, FIXED_MS, MS_PER_TOKEN, PACE_WEIGHT

LEAST_MS = 1e-3  # either part of a line, so that no cost is zero


@dataclass(slots=True)
class CostModel:
    """Milliseconds of one window on one core. `pace` follows the runs: 2.0 means that they take twice the line.

    Beyond the usual windows, attention bends the line upwards: its cost grows with the square of the tokens.
    """

    fixed_ms: float = FIXED_MS
    ms_per_token: float = MS_PER_TOKEN
    pace: float = 1.0

    def window_ms(self, tokens: float) -> float:
        return self.pace * self._expected_ms(tokens)

    def learn(self, tokens: int, spent_ms: float) -> None:
        """Correct the pace by a run on one core. A lost update does no harm, so that worker threads need no lock."""
        self.pace += PACE_WEIGHT * (spent_ms / self._expected_ms(tokens) - self.pace)

    def _expected_ms(self, tokens: float) -> float:
        attention = max(tokens - MAX_WINDOW_TOKENS, 0) / ATTENTION_TOKENS
        return self.fixed_ms + self.ms_per_token * tokens * (1 + attention)


def fit(tokens: Sequence[int], milliseconds: Sequence[float]) -> CostModel:
    """Return the least-squares line through runs of two lengths at least, with neither part below a microsecond."""
    slope = max(linear_regression(tokens, milliseconds).slope, LEAST_MS)
    return CostModel(fixed_ms=max(fmean(milliseconds) - slope * fmean(tokens), LEAST_MS), ms_per_token=slope)
