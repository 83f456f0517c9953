"""Stage clocks: where the time of an input went, and how that is told."""

from collections.abc import Sequence
from dataclasses import dataclass, fields

from models.tasks.base import Usage
from service.responses import Timings


@dataclass(frozen=True, slots=True)
class Stages:
    """Nanoseconds of `perf_counter_ns`. The clocks touch: queue, tokenization, inference_wall and postprocess add
    up to `total`, which runs from submission to the end of decoding.

    `inference` is neural compute summed over the windows, `inference_wall` its elapsed time.
    """

    queue: int
    tokenization: int
    inference: int
    inference_wall: int
    postprocess: int
    total: int

    def milliseconds(self) -> Timings:
        """To the microsecond."""
        return Timings(**{stage: round(getattr(self, stage) / 1e6, 3) for stage in STAGES})


STAGES = tuple(field.name for field in fields(Stages))


def add_up_stages(stages: Sequence[Stages], total: int) -> Stages:
    """The stages of a request whose inputs were submitted together and worked off one after the other.

    `total` runs to the end of the request; what the inputs' own clocks did not see of it is postprocessing.
    """
    queue = min(each.queue for each in stages)
    tokenization = sum(each.tokenization for each in stages)
    inference_wall = sum(each.inference_wall for each in stages)
    return Stages(
        queue=queue,
        tokenization=tokenization,
        inference=sum(each.inference for each in stages),
        inference_wall=inference_wall,
        postprocess=total - queue - tokenization - inference_wall,
        total=total,
    )


def add_up_usage(usages: Sequence[Usage]) -> Usage:
    return Usage(
        tokens_in=sum(each.tokens_in for each in usages),
        tokens_used=sum(each.tokens_used for each in usages),
        windows=sum(each.windows for each in usages),
        truncated=any(each.truncated for each in usages),
    )


def server_timing(timings: Timings) -> str:
    """The value of a Server-Timing header, durations in milliseconds (W3C Server Timing)."""
    return ", ".join(f"{stage};dur={duration:.3f}" for stage, duration in timings)
