"""Stage clocks: where the time of an input went, and what several inputs took together."""

from collections.abc import Sequence
from dataclasses import dataclass

from models.tasks.base import Usage


@dataclass(frozen=True, slots=True)
class Stages:
    """Nanoseconds of `perf_counter_ns`. queue, tokenization, inference_wall and postprocess make up `total`, which
    runs from submission to the end of decoding.

    `queue` is the time in which nothing was done; `inference` is neural compute summed over the windows,
    `inference_wall` its elapsed time.
    """

    queue: int
    tokenization: int
    inference: int
    inference_wall: int
    postprocess: int
    total: int


def add_up_usage(usages: Sequence[Usage]) -> Usage:
    """Sum the tokens and windows; the total is truncated if any input was."""
    return Usage(
        tokens_in=sum(usage.tokens_in for usage in usages),
        tokens_used=sum(usage.tokens_used for usage in usages),
        windows=sum(usage.windows for usage in usages),
        truncated=any(usage.truncated for usage in usages),
    )
