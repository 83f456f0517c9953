"""Says how much load there is at each moment of a run, as a share of the most, and in which phase."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

Shape = Literal["steady", "step", "spike", "soak"]


@dataclass(frozen=True, slots=True)
class Phase:
    """Holds the load for a share of the run's time, at a share of the most load."""

    name: str
    duration: float
    load: float


SHAPES: dict[Shape, Sequence[Phase]] = {
    "steady": (Phase("", 1.0, 1.0),),
    "step": tuple(Phase(f"step {number}: {number / 5:.0%}", 1 / 5, number / 5) for number in range(1, 6)),
    "spike": (
        Phase("before the spike: 20%", 2 / 5, 0.2),
        Phase("spike: 100%", 1 / 5, 1.0),
        Phase("after the spike: 20%", 2 / 5, 0.2),
    ),
    # A quarter beside a quarter shows what creeps: memory, connections, queues.
    "soak": tuple(Phase(f"quarter {number}: 100%", 1 / 4, 1.0) for number in range(1, 5)),
}
"""The durations of each add up to 1."""


def phase_at(shape: Shape, share_of_time: float) -> Phase:
    """Return the phase at a moment of the run; what comes after its end counts as the last."""
    end = 0.0
    for phase in SHAPES[shape]:
        end += phase.duration
        if share_of_time < end:
            return phase
    return SHAPES[shape][-1]


def arrivals(shape: Shape, rate: float, seconds: float, number: int = 0, of: int = 1) -> list[float]:
    """List when requests are due, in seconds from the start, evenly spaced within each phase.

    `rate`: requests a second at full load. Of several processes (`of`), each takes every so-maniest, from `number` on.
    """
    dues: list[float] = []
    begin = carried = 0.0  # `carried`: what is left of an interval at the end of a phase, as a share of it
    for phase in SHAPES[shape]:
        interval = 1 / (rate * phase.load)
        duration = phase.duration * seconds
        due = carried * interval
        while due < duration - 1e-9:
            dues.append(begin + due)
            due += interval
        carried = (due - duration) / interval
        begin += duration
    return dues[number::of]
