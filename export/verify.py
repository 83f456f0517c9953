"""Checks that a bundle must pass before it is written."""

import math
from collections.abc import Collection, Sequence
from typing import Any

import numpy as np
import onnxruntime
from tqdm import tqdm

from models.tasks.base import AnyTask, Features, Outputs, Run
from models.tasks.errors import HalfdepthError
from models.tasks.session import feed

PARITY_INPUTS = 200
MAX_LOGIT_DIFFERENCE = 1e-4
# Percent of the answers of a model whose trainer we do not know, and whose users expect what it says in float.
MIN_AGREEMENT = 99.0
# Share of each text's ten nearest neighbours by float that a search by int8 must find.
MIN_NEIGHBOURS = 0.95
# Of float32 to the float16 that it was made of, whose rounding this is; tiny models differ by less than a tenth of it.
MAX_HALF_DIFFERENCE = 0.01
# Of int8 by its rewrites: where a float sum moves by its last bit, a rounding to 8 bits may fall the other way, and a
# classifier's last layer gets finer scales, of only its first token. A bundle of ours moves by 0.0005
# (docs/log/graph.md).
MAX_REWRITE_DIFFERENCE = 0.1
PADDED_INPUTS = 20
CANDIDATES = 5  # examples tokenized for each input kept, so that short and long ones are both among them


class VerifyError(HalfdepthError):
    """A figure is out of its bound; the text is one line with the figure, its value and the bound."""


def check(figure: str, value: float, bound: float) -> None:
    """Refuse a value above its bound. Raises: VerifyError, also if the value is not a number."""
    if not value <= bound:
        raise VerifyError(f"{figure} is {value:.3g}, above the limit of {bound:g} (by {value - bound:.3g})")


def check_agreement(agreements: Sequence[float], bound: float) -> None:
    """Refuse an int8 graph that answers other than its float graph does.

    `agreements`: of each input, from 0 to 1; `bound`: of their mean, in percent. Raises: VerifyError.
    """
    count, total = len(agreements), math.fsum(agreements)
    if count < 100:  # then a single near-tie is more than one percent
        total += 1.0 - min(agreements)
    if not 100 * total / count >= bound:
        raise VerifyError(
            f"int8 keeps {100 * math.fsum(agreements) / count:.2f}% of float's answers to {count} inputs, less than "
            f"{bound:g}%; "
            "leave products in float with --keep-float, all of them with --no-int8, or lower --min-agreement"
        )


def check_neighbours(overlap: float, count: int, bound: float) -> None:
    """Refuse an int8 graph by whose embeddings a search finds other texts.

    `overlap`: share of the ten nearest neighbours by float that int8 keeps, among `count` texts. Raises: VerifyError.
    """
    if not overlap >= bound:
        raise VerifyError(
            f"int8 keeps {overlap:.3f} of each text's ten nearest neighbours by float among {count} texts, less than "
            f"{bound:g}; "
            "leave products in float with --keep-float, all of them with --no-int8, or lower --min-neighbours"
        )


def parity_inputs(task: AnyTask, inputs: Sequence[Any], seed: int) -> list[Features]:
    """Choose real windows of the task's inputs, evenly spread over their lengths; fewer if there are fewer."""
    order = np.random.default_rng(seed).permutation(len(inputs))[: PARITY_INPUTS * CANDIDATES]
    windows: list[Features] = [window for index in order for window in task.encode(inputs[index]).windows]
    windows.sort(key=len)
    indices = np.linspace(0, len(windows) - 1, min(PARITY_INPUTS, len(windows))).round().astype(int)
    return [windows[index] for index in indices]


def padded_run(
    session: onnxruntime.InferenceSession,
    output_names: Sequence[str],
    token_outputs: Collection[str],
    neighbour: Features,
) -> Run:
    """Returns: a run of a window in a batch with a longer `neighbour`, up to whose length it is padded.

    It gives the outputs of the window's own tokens. `token_outputs`: those with a value for each token.
    """
    names = [item.name for item in session.get_inputs()]

    def run(features: Features) -> Outputs:
        length = len(features)
        padding = (0, len(neighbour) - length)
        padded_window = Features(np.pad(features.input_ids, padding), np.pad(features.token_type_ids, padding))
        feeds = [feed(window, names) for window in (padded_window, neighbour)]
        feeds[0]["attention_mask"] = (np.arange(len(neighbour)) < length).astype(np.int64)[None]
        batch = {name: np.concatenate([arrays[name] for arrays in feeds]) for name in names}
        outputs = session.run(list(output_names), batch)
        return tuple(
            output[0][:length] if name in token_outputs else output[0]
            for name, output in zip(output_names, outputs, strict=True)
        )

    return run


def relative_difference(run: Run, reference: Run, inputs: Sequence[Features]) -> float:
    """Returns: the mean absolute difference over all logits (or states), as a share of the largest of them."""
    total, count, largest = 0.0, 0, 0.0
    for features in tqdm(inputs, desc="rewrites", unit="input"):
        for output, expected in zip(run(features), reference(features), strict=True):
            total += float(np.abs(output - expected).sum())
            count += output.size
            largest = max(largest, float(np.abs(expected).max()))
    return total / count / largest


def max_logit_difference(run: Run, reference: Run, inputs: Sequence[Features]) -> float:
    """Returns: the largest absolute difference of any logit (or hidden state) of any input; NaN if one is."""
    largest = 0.0
    for features in tqdm(inputs, desc="logit parity", unit="input"):
        for output, expected in zip(run(features), reference(features), strict=True):
            difference = float(np.abs(output - expected).max())
            largest = difference if math.isnan(difference) else max(largest, difference)
            if math.isnan(largest):
                return largest
    return largest
