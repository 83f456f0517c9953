"""Learns from every run what a window takes, and on how many threads one should run that is alone."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from statistics import fmean, linear_regression

from models.tasks.base import MAX_WINDOW_TOKENS
from service.engine.policy import (
    ATTENTION_TOKENS,
    FIXED_MS,
    LONE_MARGIN,
    LONE_MOST,
    LONE_TRIAL,
    LONE_WEIGHT,
    MS_PER_TOKEN,
    PACE_WEIGHT,
)

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
        return self.pace * self.expected_ms(tokens)

    def tokens_within(self, milliseconds: float) -> float:
        """Returns: the tokens of a window that takes no longer, MAX_WINDOW_TOKENS at most."""
        return min((milliseconds / self.pace - self.fixed_ms) / max(self.ms_per_token, LEAST_MS), MAX_WINDOW_TOKENS)

    def learn(self, tokens: int, spent_ms: float) -> None:
        """Correct the pace by a run on one core. A lost update does no harm, so that worker threads need no lock."""
        self.pace += PACE_WEIGHT * (spent_ms / self.expected_ms(tokens) - self.pace)

    def expected_ms(self, tokens: float) -> float:
        """Returns: what a window takes by the line alone, which attention bends where it is long."""
        attention = max(tokens - MAX_WINDOW_TOKENS, 0) / ATTENTION_TOKENS
        return self.fixed_ms + self.ms_per_token * tokens * (1 + attention)


def fit(tokens: Sequence[int], milliseconds: Sequence[float]) -> CostModel:
    """Return the least-squares line through runs of two lengths at least, with neither part below a microsecond."""
    slope = max(linear_regression(tokens, milliseconds).slope, LEAST_MS)
    return CostModel(fixed_ms=max(fmean(milliseconds) - slope * fmean(tokens), LEAST_MS), ms_per_token=slope)


@dataclass(slots=True)
class LengthRange:
    """Holds what is known of lone runs of up to so many tokens.

    A pace is what runs took, as a multiple of the line of their model's costs. `runs` counts those that were learned
    from, `since_trial` those since the slower number of threads was tried last; `changed` is when the choice changed.
    """

    up_to: int
    most_threads: int
    wide_pace: float
    narrow_pace: float = 1.0
    is_wide: bool = True
    runs: int = 0
    since_trial: int = 0
    changed: datetime | None = None

    @property
    def threads(self) -> int:
        return self.most_threads if self.is_wide else 1


@dataclass(slots=True)
class LoneRuns:
    """Chooses the threads of lone runs, one or `threads`, by what such runs took.

    `wide_share` is what a run on `threads` takes of one on a single thread, as measured at the start, which may have
    been a busy moment: it counts until runs say otherwise. A range of lengths is what lies between two powers of two.
    One run in LONE_TRIAL takes the number of threads that seems the slower, so that a wrong choice does not last.

    Several threads learn at the same time without a lock: a lost update does no harm.
    """

    threads: int = 1
    learns: bool = False
    wide_share: float = 0.0
    costs: CostModel = field(default_factory=CostModel)
    _ranges: dict[int, LengthRange] = field(default_factory=dict)

    def threads_for(self, tokens: float) -> int:
        """Choose the threads of the next lone run of about so many tokens."""
        if not self.learns or self.threads == 1:
            return self.threads
        lengths = self._range(int(tokens))
        is_wide = lengths.is_wide is not (lengths.since_trial >= LONE_TRIAL - 1)
        return self.threads if is_wide else 1

    def learn(self, tokens: int, threads: int, spent_ms: float) -> None:
        """Note what a lone run of so many tokens took on so many threads."""
        if not self.learns or self.threads == 1:
            return
        lengths, was_wide = self._range(tokens), threads > 1
        pace = spent_ms / self.costs.expected_ms(tokens)
        if was_wide:
            lengths.wide_pace = _moved(lengths.wide_pace, pace)
        else:
            lengths.narrow_pace = _moved(lengths.narrow_pace, pace)
        lengths.runs += 1
        lengths.since_trial = lengths.since_trial + 1 if was_wide is lengths.is_wide else 0
        chosen, other = lengths.wide_pace, lengths.narrow_pace
        if not lengths.is_wide:
            chosen, other = other, chosen
        if other < LONE_MARGIN * chosen:
            lengths.is_wide, lengths.since_trial, lengths.changed = not lengths.is_wide, 0, datetime.now(UTC)

    def ranges(self) -> list[LengthRange]:
        """Return the ranges that runs were learned from, short ones first."""
        ranges = tuple(self._ranges.values())  # in one step, for a worker may add one
        return sorted([lengths for lengths in ranges if lengths.runs], key=lambda lengths: lengths.up_to)

    def _range(self, tokens: int) -> LengthRange:
        bits = tokens.bit_length()
        lengths = self._ranges.get(bits)
        if lengths is None:
            is_wide = self.wide_share < LONE_MARGIN
            lengths = self._ranges[bits] = LengthRange((1 << bits) - 1, self.threads, self.wide_share, is_wide=is_wide)
        return lengths


def _moved(pace: float, newest: float) -> float:
    """Move a pace towards the newest run; one that was held up by something else counts for no more than LONE_MOST."""
    return pace + LONE_WEIGHT * (min(newest, LONE_MOST * pace) - pace)
