"""A window as a graph is fed it."""

import numpy as np

from models.tasks.base import Features


def test_a_window_is_fed_as_a_batch_of_one_without_padding() -> None:
    window = Features(np.array([2, 7, 3]), np.array([0, 0, 1]))
    assert len(window) == 3
    feed = window.feed(["input_ids", "attention_mask", "token_type_ids"])
    assert {name: array.tolist() for name, array in feed.items()} == {
        "input_ids": [[2, 7, 3]],
        "attention_mask": [[1, 1, 1]],
        "token_type_ids": [[0, 0, 1]],
    }


def test_a_graph_is_fed_only_the_inputs_that_it_has() -> None:
    window = Features(np.array([2, 3]), np.array([0, 0]))
    assert list(window.feed(["attention_mask", "input_ids"])) == ["attention_mask", "input_ids"]
