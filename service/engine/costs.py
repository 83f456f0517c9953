"""What a window will take: a line from tokens to milliseconds, kept true by every run."""

from collections.abc import Sequence
from dataclasses import dataclass

LONG_MS, SHORT_MS = 10.0, 5.0  # a unit of the one kind that is under way does not hold up one of the other

CHARACTERS_PER_TOKEN = 4  # assumption, for English; from the encoding on, the tokens are known
ENCODE_MS_PER_TOKEN = 0.0015  # 0.18 ms for 128 tokens, measured on the target machine; decoding takes about as much
MEMORY = 0.05  # share of the newest run in the pace


@dataclass(slots=True)
class CostModel:
    """Milliseconds of one window on one core. `pace` follows the runs: 2.0 means that they take twice the line.

    The default is a 3-layer student of 384 on the target machine; self-tuning measures the line of this one.
    """

    fixed_ms: float = 0.3
    ms_per_token: float = 0.035
    pace: float = 1.0

    def window_ms(self, tokens: int) -> float:
        return self.pace * (self.fixed_ms + self.ms_per_token * tokens)

    def learn(self, tokens: int, spent_ms: float) -> None:
        """Of a run on one core. A lost update does no harm, so that worker threads need no lock here."""
        expected = self.fixed_ms + self.ms_per_token * tokens
        self.pace += MEMORY * (spent_ms / expected - self.pace)


def fit(tokens: Sequence[int], milliseconds: Sequence[float]) -> CostModel:
    """The least-squares line, with neither part below a microsecond. Two lengths at least."""
    mean_tokens, mean_ms = sum(tokens) / len(tokens), sum(milliseconds) / len(tokens)
    covariance = sum((x - mean_tokens) * (y - mean_ms) for x, y in zip(tokens, milliseconds, strict=True))
    slope = max(covariance / sum((x - mean_tokens) ** 2 for x in tokens), 1e-3)
    return CostModel(fixed_ms=max(mean_ms - slope * mean_tokens, 1e-3), ms_per_token=slope)
