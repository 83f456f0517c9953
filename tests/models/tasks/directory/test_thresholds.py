"""The threshold of "no answer" by the length of the context."""

import math
from pathlib import Path

import pytest

from models.tasks.directory.files import BundleError
from models.tasks.directory.thresholds import (
    chosen_thresholds,
    read_points,
    read_thresholds,
    with_thresholds,
)
from models.tasks.errors import UsageError

POINTS = ((128, -1.0), (256, 1.0), (1024, 2.0))


def test_a_configuration_may_have_one_threshold_or_points_which_decide() -> None:
    path = Path("config.json")
    assert read_thresholds({}, path) == (None, ())
    assert read_thresholds({"no_answer_threshold": 1}, path) == (1, ())
    points = {"no_answer_threshold_by_tokens": [[128, -1], [256, 0.5]]}
    assert read_thresholds(points | {"no_answer_threshold": 7}, path) == (-1.0, ((128, -1.0), (256, 0.5)))
    assert read_thresholds(points | {"no_answer_threshold": None}, path) == (-1.0, ((128, -1.0), (256, 0.5)))


@pytest.mark.parametrize(
    "value",
    [
        [],
        {},
        -1.0,
        "128=-1.0",
        [128, -1.0],
        [[128]],
        [[128, -1.0, 3]],
        [[128.5, -1.0]],
        [[True, -1.0]],
        [[128, True]],
        [[128, "-1"]],
        [[0, -1.0]],
        [[-5, -1.0]],
        [[128, math.nan]],
        [[128, math.inf]],
        [[128, 10**400]],
        [[10**400, 1.0]],
        [[256, -1.0], [128, 1.0]],
        [[128, -1.0], [128, 1.0]],
    ],
)
def test_other_points_are_refused(value: object) -> None:
    with pytest.raises(ValueError, match="must be pairs of context tokens, rising, and logits, such as"):
        read_points(value)
    with pytest.raises(BundleError, match=r"^config\.json: no_answer_threshold_by_tokens must be .* remove it$"):
        read_thresholds({"no_answer_threshold_by_tokens": value}, Path("config.json"))


def test_a_number_that_no_float_can_hold_is_refused() -> None:
    with pytest.raises(BundleError, match=r"^config\.json: no_answer_threshold must be a number; .* remove it$"):
        read_thresholds({"no_answer_threshold": 10**400}, Path("config.json"))


def test_a_command_line_gives_one_threshold_or_points() -> None:
    assert chosen_thresholds(None, ()) is None
    assert chosen_thresholds(-1.0, ()) == (-1.0, ())
    assert chosen_thresholds(None, ("128=-1.0", "256=1")) == (-1.0, ((128, -1.0), (256, 1.0)))
    for threshold, points, message in [
        (0.0, ("128=1",), "not both"),
        (math.nan, (), "finite"),
        (None, ("128",), "TOKENS=LOGITS"),
        (None, ("128=x",), "TOKENS=LOGITS"),
        (None, ("256=1", "128=2"), "rising tokens"),
    ]:
        with pytest.raises(UsageError, match=message):
            chosen_thresholds(threshold, points)


def test_new_thresholds_take_the_place_of_all_old_ones() -> None:
    config = {"hidden_size": 32, "no_answer_threshold": 3, "no_answer_threshold_by_tokens": [[1, 2.0]]}
    assert with_thresholds(config, (0.5, ())) == {"hidden_size": 32, "no_answer_threshold": 0.5}
    written = with_thresholds(config, (-1.0, POINTS))
    assert read_thresholds(written, Path()) == (-1.0, POINTS)
    assert config["no_answer_threshold"] == 3
