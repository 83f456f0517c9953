"""Measures answers: SQuAD's two metrics, MLQA's, how right abstaining is, and calibration."""

import math
import re
import string
import unicodedata
from collections import Counter
from collections.abc import Sequence
from itertools import pairwise
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from models.tasks.base import Metrics

LENGTHS = (50, 100, 200, 380, 700, 1200, 2000)  # of contexts, in tokens: where one bucket ends
BINS = 10  # of equal width, as in Guo et al. 2017, arXiv:1706.04599
PRECISION, RECALL = "abstaining_precision", "abstaining_recall"
SCORE_ERROR, NO_ANSWER_ERROR = "score_ece", "no_answer_score_ece"

Language = Literal["en", "ar", "de", "es", "hi", "vi", "zh", "ja", "km", "lo", "my", "th"]
QUOTES = "\u2018\u2019\u201a\u201b\u201c\u201d\u201e\u201f\xab\xbb\u2039\u203a"  # single, double, guillemets
# MLQA's, but for the first, SQuAD's. The second takes the syllable wherever it stands, as MLQA's script does.
ARTICLES: dict[str, re.Pattern[str]] = {
    "en": re.compile(r"\b(a|an|the)\b"),
    "ar": re.compile("ال"),
    "de": re.compile(r"\b(ein|eine|einen|einem|eines|einer|der|die|das|den|dem|des)\b"),
    "es": re.compile(r"\b(un|una|unos|unas|el|la|los|las)\b"),
    "vi": re.compile(r"\b(của|là|cái|chiếc|những)\b"),
}
# Scripts that write no spaces: each character is a word. Chinese as in MLQA's script; the others are ours.
SPACELESS = {
    "zh": "\u4e00-\u9fa5",
    "ja": "\u3005-\u3007\u3041-\u3096\u309d-\u30ff\u31f0-\u31ff\u3400-\u4dbf\u4e00-\u9fff\uff66-\uff9f",
    "km": "\u1780-\u17ff",
    "lo": "\u0e80-\u0eff",
    "my": "\u1000-\u109f",
    "th": "\u0e00-\u0e7f",
}
MARKS = "".join(  # of those scripts; one that follows a character belongs to it
    chr(code) for code in range(0x0E00, 0x30FF) if unicodedata.category(chr(code)).startswith("M")
)
WORDS = {language: re.compile(f"[{script}][{MARKS}]*") for language, script in SPACELESS.items()}


def normalize_answer(text: str, language: Language = "en") -> str:
    """Reduce a text to lower case without punctuation and articles, with single spaces, in composed characters (NFC).

    English is SQuAD's normalization, whose punctuation is ASCII's, and beyond it typographic quotes, which say no more
    than the straight ones. The other languages are MLQA's: all of Unicode's punctuation, the language's own articles
    if it has any, and in scripts without spaces every character is a word.

    Source: Rajpurkar et al. 2018, arXiv:1806.03822; Lewis et al. 2020, arXiv:1910.07475, section 5.
    """
    text = unicodedata.normalize("NFC", text.lower())
    text = "".join(character for character in text if not _is_punctuation(character, language))
    if language in ARTICLES:
        text = ARTICLES[language].sub(" ", text)
    if language in WORDS:
        text = WORDS[language].sub(r" \g<0> ", text)
    return " ".join(text.split())


def exact_match(prediction: str, gold_answers: Sequence[str], language: Language = "en") -> float:
    """Returns: 1.0 if the prediction equals any gold answer after normalization; no gold answers means "no answer"."""
    return float(normalize_answer(prediction, language) in _normalized(gold_answers, language))


def f1(prediction: str, gold_answers: Sequence[str], language: Language = "en") -> float:
    """Returns: the best token F1 against any gold answer (Rajpurkar et al. 2018, the official SQuAD 2.0 script)."""
    words = normalize_answer(prediction, language).split()
    return max(_word_f1(words, gold.split()) for gold in _normalized(gold_answers, language))


def _normalized(gold_answers: Sequence[str], language: Language) -> list[str]:
    """Normalize, and drop what normalizes to nothing, as the official script does. Never empty."""
    normalized = (normalize_answer(gold, language) for gold in gold_answers)
    return [gold for gold in normalized if gold] or [""]


def _is_punctuation(character: str, language: Language) -> bool:
    if character in string.punctuation:
        return True
    return character in QUOTES if language == "en" else unicodedata.category(character).startswith("P")


def _word_f1(prediction: list[str], gold: list[str]) -> float:
    if not prediction or not gold:
        return float(prediction == gold)
    shared = sum((Counter(prediction) & Counter(gold)).values())
    return 2 * shared / (len(prediction) + len(gold))


def buckets() -> list[tuple[str, str, int, float]]:
    """Returns: of each length the ending of its keys, its name, and its least and greatest number of tokens."""
    bounds = [(low + 1, high) for low, high in pairwise((0, *LENGTHS))]
    return [
        *((f"_{low}_{high}", f"{low} to {high:,} tokens", low, high) for low, high in bounds),
        (f"_over_{LENGTHS[-1]}", f"over {LENGTHS[-1]:,} tokens", LENGTHS[-1] + 1, math.inf),
    ]


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
