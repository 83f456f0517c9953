"""Stage clocks: where the time of an input went, and how that is told."""

from collections.abc import Mapping, Sequence
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

    def milliseconds(self) -> dict[str, float]:
        """To the microsecond."""
        return {
            "queue": round(self.queue / 1e6, 3),
            "tokenization": round(self.tokenization / 1e6, 3),
            "inference": round(self.inference / 1e6, 3),
            "inference_wall": round(self.inference_wall / 1e6, 3),
            "postprocess": round(self.postprocess / 1e6, 3),
            "total": round(self.total / 1e6, 3),
        }


def add_up_usage(usages: Sequence[Usage]) -> Usage:
    return Usage(
        tokens_in=sum(each.tokens_in for each in usages),
        tokens_used=sum(each.tokens_used for each in usages),
        windows=sum(each.windows for each in usages),
        truncated=any(each.truncated for each in usages),
    )


def server_timing(timings_ms: Mapping[str, float]) -> str:
    """The value of a Server-Timing header, durations in milliseconds (W3C Server Timing)."""
    return ", ".join([f"{stage};dur={duration:.3f}" for stage, duration in timings_ms.items()])
