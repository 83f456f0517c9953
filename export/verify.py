"""Checks that a bundle must pass before it is written."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from tqdm import tqdm

from models.predict import Run
from models.tasks.base import Features
from models.tasks.build import AnyTask

PARITY_INPUTS = 200
MAX_LOGIT_DIFFERENCE = 1e-4
CANDIDATES = 5  # examples tokenized for each input kept, so that short and long ones are both among them


class VerifyError(Exception):
    """A figure is out of its bound; the text is one line with the figure, its value and the bound."""


def check(figure: str, value: float, bound: float) -> None:
    """Raises: VerifyError, also if the value is not a number."""
    if not value <= bound:
        raise VerifyError(f"{figure} is {value:.3g} and may be {bound:g} at most: {value - bound:.3g} too much")


def parity_inputs(task: AnyTask, inputs: Sequence[Any], seed: int) -> list[Features]:
    """Real windows of the task's inputs, evenly spread over the lengths that they have; fewer if there are fewer."""
    kernel: Any = task  # which of the three it is, and so the type of its inputs, is the caller's to know
    order = np.random.default_rng(seed).permutation(len(inputs))[: PARITY_INPUTS * CANDIDATES]
    windows: list[Features] = [window for index in order for window in kernel.encode(inputs[index]).windows]
    windows.sort(key=len)
    chosen = np.linspace(0, len(windows) - 1, min(PARITY_INPUTS, len(windows))).round().astype(int)
    return [windows[index] for index in chosen]


def max_logit_difference(run: Run, reference: Run, inputs: Sequence[Features]) -> float:
    """The largest absolute difference of any logit (or hidden state) of any input; NaN if one is."""
    largest = 0.0
    for features in tqdm(inputs, desc="logit parity", unit="input"):
        for own, other in zip(run(features), reference(features), strict=True):
            difference = float(np.abs(own - other).max())
            largest = difference if math.isnan(difference) else max(largest, difference)
            if math.isnan(largest):
                return largest
    return largest
