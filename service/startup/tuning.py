"""Measures this machine: the threads that pay for a lone run, and what a window costs on one core."""

from collections.abc import Callable, Sequence
from time import perf_counter

import numpy as np

from models.tasks.base import Features
from models.tasks.session import Session
from service.engine.costs import CostModel, fit

LENGTHS = (16, 64, 128)  # tokens, where the model reads as many
RUNS = 7  # of each length; the least counts, for whatever else the machine does only adds to it
SECONDS = 0.1  # for the runs of one length, so that large models do not hold up the start
MAX_WIDER_SHARE = 0.9  # twice the threads must bring a run down to this share of its time
TOKEN = 5  # an id that any vocabulary has


def window_of(tokens: int) -> Features:
    ids = np.full(tokens, TOKEN, dtype=np.int64)
    return Features(ids, np.zeros_like(ids))


def lengths_of(max_length: int) -> tuple[int, ...]:
    """Choose the lengths at which a model is measured: LENGTHS, or for one that reads less the same shares of that."""
    longest = LENGTHS[-1]
    return LENGTHS if max_length >= longest else tuple(max(1, length * max_length // longest) for length in LENGTHS)


def measure_costs(session: Session, lengths: Sequence[int] = LENGTHS) -> CostModel:
    """Fit the line from tokens to milliseconds on one core. `lengths`: two different ones at least."""
    return fit(lengths, [milliseconds(session, tokens, wide=False) for tokens in lengths])


def most_threads(open_wide: Callable[[int], Session], cores: int, tokens: int = LENGTHS[-1]) -> int:
    """Double the threads of a lone run of so many tokens, from two on, for as long as that pays.

    Whether even two pay is learned later, from runs (service/engine/costs.py). `open_wide`: threads to a session of so
    many.
    """
    threads = min(2, cores)
    session = open_wide(threads) if threads < cores else None
    while session is not None and threads < cores:
        doubled = min(2 * threads, cores)
        wider = open_wide(doubled)
        if wide_share(wider, session, tokens) > MAX_WIDER_SHARE:
            break
        threads, session = doubled, wider
    return threads


def wide_share(wider: Session, session: Session, tokens: int = LENGTHS[-1], *, of_wide: bool = True) -> float:
    """Returns: what a run on the threads of `wider` takes of one of `session`, on its own threads or, unless `of_wide`,
    on one.
    """
    return milliseconds(wider, tokens, wide=True) / milliseconds(session, tokens, wide=of_wide)


def milliseconds(session: Session, tokens: int, *, wide: bool) -> float:
    """Time a window: the least of a few runs, after one that is not counted."""
    window = window_of(tokens)
    times: list[float] = []
    session.run(window, wide=wide)
    end = perf_counter() + SECONDS
    while not times or (len(times) < RUNS and perf_counter() < end):
        began = perf_counter()
        session.run(window, wide=wide)
        times.append((perf_counter() - began) * 1e3)
    return min(times)


def same_outputs(session: Session, lengths: Sequence[int] = LENGTHS) -> bool:
    """Say whether one thread and several give the same bytes, so that an answer does not depend on what else runs."""
    return all(
        np.array_equal(narrow, wide, equal_nan=True)
        for tokens in lengths
        for narrow, wide in zip(session.run(window_of(tokens)), session.run(window_of(tokens), wide=True), strict=True)
    )
