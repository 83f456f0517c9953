"""Holds what both training programs share: the options of a loop, and what may end it early."""

import math
import signal
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, fields
from types import FrameType
from typing import Annotated

from models.tasks.errors import CancelledError, DivergedError, StoppedError
from models.tasks.options import Flag, Options

LOOP = "loop"
SEEDS = 2**63  # fewer than torch takes

Epochs = Annotated[float, Flag("passes over the data; fractions are allowed", above=0, below=math.inf, group=LOOP)]
PeakRate = Annotated[float, Flag("peak learning rate", above=0, group=LOOP)]
Clip = Annotated[float, Flag("maximum norm of the gradient", above=0, group=LOOP)]
Steps = Annotated[int, Flag("interval in optimizer steps", above=0, group=LOOP)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Loop(Options):
    """Says how long to train and how; both programs add to it, each with the defaults that suit it."""

    epochs: Epochs = 1.0
    batch_size: Annotated[int, Flag("windows in a micro-batch", above=0, group=LOOP)] = 16
    accumulate: Annotated[int, Flag("micro-batches in an optimizer step", above=0, group=LOOP)] = 1
    lr: PeakRate = 1e-4
    warmup: Annotated[
        float,
        Flag("share of the steps over which the rate rises; then it decays linearly", at_least=0, below=1, group=LOOP),
    ] = 0.05
    weight_decay: Annotated[float, Flag("weight decay of AdamW", at_least=0, group=LOOP)] = 0.01
    clip: Clip = 1.0
    bf16: Annotated[bool, Flag("train with bfloat16 autocast", group=LOOP)] = True
    seed: Annotated[
        int, Flag("random seed for the order, first weights and masks", at_least=0, below=SEEDS, group=LOOP)
    ] = 0
    evaluate_every: Steps = 1000
    checkpoint_every: Steps = 200


@dataclass(slots=True)
class Progress:
    """Says where a run is; a checkpoint keeps it beside the weights."""

    step: int = 0
    seconds: float = 0.0


def identity(options: Options, *, free_options: set[str]) -> dict[str, str]:
    """Return what a run that continues must share with the one before: every option but `free_options`."""
    return {
        field.name: str(getattr(options, field.name)) for field in fields(options) if field.name not in free_options
    }


def check_finite(losses: Mapping[str, float], total: float) -> None:
    """Check that the weighted sum of the losses is a number. Raises: DivergedError."""
    if not math.isfinite(total):
        raise DivergedError(f"a loss is no longer a number: {dict(losses)}; lower --lr")


@dataclass(slots=True)
class Stop:
    """Says whether SIGTERM or Ctrl-C has come."""

    is_requested: bool = False
    by_hand: bool = False

    def error(self, step: int) -> StoppedError:
        """Return what ends the run once its checkpoint is written."""
        error, name = (CancelledError, "Ctrl-C") if self.by_hand else (StoppedError, "SIGTERM")
        return error(f"stopped by {name} at step {step}; run the same command to continue")


@contextmanager
def signals_noted() -> Iterator[Stop]:
    """Let SIGTERM and Ctrl-C set a note instead of ending the process, for as long as the block lasts.

    A second Ctrl-C ends the process at once. Only the main thread can receive signals; in another one they keep their
    meaning.
    """
    stop = Stop()
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return

    def note(number: int, _frame: FrameType | None) -> None:
        stop.is_requested, stop.by_hand = True, number == signal.SIGINT
        signal.signal(signal.SIGINT, previous_handlers[signal.SIGINT])

    previous_handlers = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        for number in previous_handlers:
            signal.signal(number, note)
        yield stop
    finally:
        for number, handler in previous_handlers.items():
            signal.signal(number, handler)
