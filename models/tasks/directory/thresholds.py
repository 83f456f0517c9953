"""Defines by how many logits "no answer" must lead, which may depend on the length of the context."""

import json
import math
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import TypeGuard

from models.tasks.directory.files import CONFIG, BundleError, read_json
from models.tasks.errors import UsageError

THRESHOLD, BY_TOKENS = "no_answer_threshold", "no_answer_threshold_by_tokens"
"""Keys of config.json and halfdepth.json: the logits for every context, and points. Points decide where both stand."""

Points = tuple[tuple[int, float], ...]
"""Numbers of context tokens, rising, and the threshold at each in logits."""

Thresholds = tuple[float | None, Points]
"""The logits for every context, None for a model not trained to abstain; and points, whose first has these logits."""

NEVER: Thresholds = (None, ())  # of a model not trained to abstain
EXAMPLE = "128=-1.0 256=0.5"  # on a command line
POINTS_HELP = f"the threshold by the context's tokens, TOKENS=LOGITS, as in {EXAMPLE}; on a line between them, by log"
FORM = "must be pairs of context tokens, rising, and logits, such as [[128, -1.0], [256, 0.5]]"


def read_thresholds(config: Mapping[str, object], path: Path) -> Thresholds:
    """Read what a model's config.json, at `path`, says of "no answer". Raises: BundleError."""
    if (value := config.get(BY_TOKENS)) is not None:
        try:
            points = read_points(value)
        except ValueError as error:
            raise BundleError(f"{path}: {BY_TOKENS} {error}; correct it or remove it") from error
        return points[0][1], points
    threshold = config.get(THRESHOLD)
    if threshold is None:
        return NEVER
    if not _is_number(threshold):
        raise BundleError(f"{path}: {THRESHOLD} must be a number; correct it or remove it")
    return threshold, ()


def read_points(value: object) -> Points:
    """Check points as JSON has them. Raises: ValueError."""
    pairs = value if isinstance(value, list | tuple) else ()
    points = tuple(_point(pair) for pair in pairs)
    if not points or any(low >= high for (low, _), (high, _) in pairwise(points)):
        raise ValueError(FORM)
    return points


def _point(pair: object) -> tuple[int, float]:
    match pair:
        case [int() as tokens, logits] if _is_number(tokens) and tokens > 0 and _is_number(logits):
            return tokens, float(logits)
    raise ValueError(FORM)


def _is_number(value: object) -> TypeGuard[int | float]:
    """Tell whether a value of JSON is a number that floats can hold: its integers may have any length."""
    try:
        return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    except OverflowError:
        return False


def chosen_thresholds(threshold: float | None, points: Sequence[str]) -> Thresholds | None:
    """Read what a command line says: one threshold, or points such as 128=-1.0 and 256=0.5. Raises: UsageError."""
    if threshold is not None and points:
        raise UsageError("give one threshold for every context or points by tokens, not both")
    if threshold is not None and not math.isfinite(threshold):
        raise UsageError(f"the threshold must be a finite number, not {threshold}")
    if not points:
        return None if threshold is None else (threshold, ())
    try:
        pairs = [(int(tokens), float(logits)) for tokens, _, logits in (point.partition("=") for point in points)]
        chosen = read_points(pairs)
    except ValueError as error:
        raise UsageError(f"points must be TOKENS=LOGITS, with rising tokens, such as {EXAMPLE}") from error
    return chosen[0][1], chosen


def with_thresholds(config: Mapping[str, object], thresholds: Thresholds) -> dict[str, object]:
    """Put thresholds in place of those that a config.json has."""
    threshold, points = thresholds
    rest = {key: value for key, value in config.items() if key != BY_TOKENS}
    return rest | {THRESHOLD: threshold} | ({BY_TOKENS: [list(point) for point in points]} if points else {})


def write_thresholds(directory: Path, thresholds: Thresholds) -> None:
    """Put thresholds into a model's config.json. Raises: BundleError, OSError."""
    config = with_thresholds(read_json(directory / CONFIG), thresholds)
    (directory / CONFIG).write_text(json.dumps(config, indent=2, sort_keys=True) + "\n", encoding="utf-8")
