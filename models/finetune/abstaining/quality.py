"""Measures how right a model is to abstain, by the length of the context, and how true its scores are."""

import math
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from models.finetune.abstaining.lengths import TOKENS
from models.tasks.base import Metrics

BINS = 10  # of equal width, as in Guo et al. 2017, arXiv:1706.04599
PRECISION, RECALL = "abstaining_precision", "abstaining_recall"
SCORE_ERROR, NO_ANSWER_ERROR = "score_ece", "no_answer_score_ece"


def buckets() -> list[tuple[str, str, int, float]]:
    """Returns: of each length the ending of its keys, its name, and its least and greatest number of tokens."""
    bounds = [(low + 1, high) for low, high in pairwise((0, *TOKENS))]
    return [
        *((f"_{low}_{high}", f"{low} to {high:,} tokens", low, high) for low, high in bounds),
        (f"_over_{TOKENS[-1]}", f"over {TOKENS[-1]:,} tokens", TOKENS[-1] + 1, math.inf),
    ]


# What the card calls these metrics.
FIGURES = {
    SCORE_ERROR: "expected calibration error of `score`, 10 bins of equal width",
    NO_ANSWER_ERROR: "expected calibration error of `no_answer_score`, the same",
    PRECISION: "abstaining: precision",
    RECALL: "abstaining: recall",
    **{
        f"{key}{name}": f"abstaining: {share}, contexts of {length}"
        for name, length, *_ in buckets()
        for key, share in ((PRECISION, "precision"), (RECALL, "recall"))
    },
}


def abstaining(
    refused: NDArray[np.bool_], impossible: NDArray[np.bool_], tokens: NDArray[np.int64] | None = None
) -> Metrics:
    """Compute precision and recall of abstaining over all questions and, with `tokens`, by their contexts' tokens.

    Precision: of the refused questions, the percentage that has no answer. Recall: of those that have none, the
    percentage that was refused. Either is left out where it would be a share of nothing. Of a bucket, such as
    `abstaining_precision_101_200` with contexts of 101 to 200 tokens, there are `n_101_200` questions.
    """
    metrics = _shares("", refused, impossible)
    if tokens is None:
        return metrics
    for name, _, low, high in buckets():
        inside = (low <= tokens) & (tokens <= high)
        if inside.any():
            metrics[f"n{name}"] = float(inside.sum())
            metrics |= _shares(name, refused[inside], impossible[inside])
    return metrics


def calibration_error(scores: NDArray[np.float64], outcomes: NDArray[np.float64]) -> float:
    """Compute the expected calibration error, in percentage points, over ten bins of equal width.

    Of each bin, the mean score is compared with the share of outcomes that came true; bins weigh by their scores.
    `outcomes`: 1 where what was scored is true, 0 where it is not.
    """
    numbers = np.minimum((scores * BINS).astype(int), BINS - 1)
    gaps = np.bincount(numbers, weights=scores - outcomes, minlength=BINS)
    return 100 * float(np.abs(gaps).sum() / len(scores))


def _shares(name: str, refused: NDArray[np.bool_], impossible: NDArray[np.bool_]) -> Metrics:
    right = float((refused & impossible).sum())
    shares = {}
    if refused.any():
        shares[f"{PRECISION}{name}"] = 100 * right / float(refused.sum())
    if impossible.any():
        shares[f"{RECALL}{name}"] = 100 * right / float(impossible.sum())
    return shares
