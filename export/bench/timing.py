"""Times graphs in turn, so that all meet the same machine."""

import statistics
from collections.abc import Callable, Sequence
from time import perf_counter

import numpy as np

from models.tasks.base import Features, Run

LENGTHS = (16, 32, 64, 128, 256, 384)
ROUNDS = 20
WARM_UP = 5

Latencies = dict[int, tuple[float, float]]
"""By tokens of an input: milliseconds before the rewrites and after them."""


def measure(runs: Sequence[Callable[[Features], object]], tokens: int, rounds: int) -> list[float]:
    """Returns: median milliseconds of each, one run of each in every round."""
    ids = np.random.default_rng(0).integers(5, 100, tokens)  # words that any vocabulary has
    features = Features(ids, np.zeros_like(ids))
    times: list[list[float]] = [[] for _ in runs]
    for _ in range(rounds + WARM_UP):
        for run, times_of_run in zip(runs, times, strict=True):
            began = perf_counter()
            run(features)
            times_of_run.append((perf_counter() - began) * 1e3)
    return [statistics.median(times_of_run[WARM_UP:]) for times_of_run in times]


def latencies(original_run: Run, rewritten_run: Run, *, max_length: int) -> Latencies:
    """Time both with batch 1 at each length that the model can read."""
    by_tokens: Latencies = {}
    for tokens in LENGTHS:
        if tokens <= max_length:
            before_ms, after_ms = measure([original_run, rewritten_run], tokens, ROUNDS)
            by_tokens[tokens] = (before_ms, after_ms)
    return by_tokens
