"""Keeps the stage clocks of an input, and adds up what several inputs used."""

from collections.abc import Sequence
from dataclasses import dataclass, fields

from models.tasks.base import Usage


@dataclass(frozen=True, slots=True)
class Stages:
    """Where the time went, in nanoseconds of `perf_counter_ns`.

    queue, tokenization, inference_wall and postprocess add up to `total`, which runs from submission to the end of
    decoding. `queue` is time without any work on the input; `inference` is neural compute summed over the windows;
    `inference_wall` is the elapsed time of that compute. Where the stages stand on the clock: `submitted` is the
    beginning of all, `encoded` the end of the tokenization, `inferred` that of the inference.
    """

    queue: int
    tokenization: int
    inference: int
    inference_wall: int
    postprocess: int
    total: int
    submitted: int = 0
    encoded: int = 0
    inferred: int = 0


def add_up(parts: Sequence[Stages]) -> Stages:
    """Sum the clocks of several jobs, as if they had been done one after the other."""
    return Stages(**{clock.name: sum(getattr(part, clock.name) for part in parts) for clock in fields(Stages)})


def add_up_usage(usages: Sequence[Usage]) -> Usage:
    """Sum the tokens and windows; the total is truncated if any input was."""
    return Usage(
        tokens_in=sum(usage.tokens_in for usage in usages),
        tokens_used=sum(usage.tokens_used for usage in usages),
        windows=sum(usage.windows for usage in usages),
        truncated=any(usage.truncated for usage in usages),
        unknown_tokens=sum(usage.unknown_tokens for usage in usages),
    )
