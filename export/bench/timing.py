"""How long graphs take, each in turn, so that all meet the same machine."""

import statistics
from collections.abc import Callable, Sequence
from time import perf_counter

import numpy as np
import onnxruntime

from models.tasks.base import Features, Run

LENGTHS = (16, 32, 64, 128, 256, 384)
ROUNDS = 20
WARM_UP = 5

Latencies = dict[int, tuple[float, float]]
"""By tokens of an input: milliseconds before the rewrites and after them."""


def session_options(threads: int) -> onnxruntime.SessionOptions:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    # Else the threads of one session spin on after its run and take the cores from the session that is measured next.
    options.add_session_config_entry("session.force_spinning_stop", "1")
    return options


def measure(runs: Sequence[Callable[[Features], object]], tokens: int, rounds: int) -> list[float]:
    """Median milliseconds of each, one run of each in every round."""
    ids = np.random.default_rng(0).integers(5, 100, tokens)  # words that any vocabulary has
    features = Features(ids, np.zeros_like(ids))
    times: list[list[float]] = [[] for _ in runs]
    for _ in range(rounds + WARM_UP):
        for run, own in zip(runs, times, strict=True):
            begun = perf_counter()
            run(features)
            own.append((perf_counter() - begun) * 1e3)
    return [statistics.median(own[WARM_UP:]) for own in times]


def latencies(before: Run, after: Run, *, max_length: int) -> Latencies:
    """One thread, batch 1, at each length that the model can read."""
    found: Latencies = {}
    for tokens in LENGTHS:
        if tokens <= max_length:
            first, second = measure([before, after], tokens, ROUNDS)
            found[tokens] = (first, second)
    return found
