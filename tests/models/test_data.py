"""Batches of like lengths."""

import numpy as np
import torch

from models.data import Item, collate, length_buckets
from models.tasks.base import Features

CPU = torch.device("cpu")


def test_buckets_hold_every_index_once_in_an_order_of_seed_and_epoch_alone() -> None:
    lengths = [(7 * i) % 50 for i in range(1003)]
    batches, again, later = (
        [batch.tolist() for batch in length_buckets(lengths, 4, seed=1, epoch=epoch)] for epoch in (0, 0, 1)
    )
    assert sorted(index for batch in batches for index in batch) == list(range(1003))
    assert batches == again
    assert batches != later
    padding = sum(max(lengths[i] for i in batch) * len(batch) - sum(lengths[i] for i in batch) for batch in batches)
    assert padding < 0.05 * sum(lengths)


def test_a_batch_is_padded_to_its_longest_window() -> None:
    long, short = (Features(np.arange(length), np.ones(length, np.int64)) for length in (5, 2))
    batch = collate([Item(long, np.array([1, 2])), Item(short, np.array([0, 0]))], pad_token_id=9, device=CPU)
    assert len(batch) == 2
    assert batch.input_ids.tolist() == [[0, 1, 2, 3, 4], [0, 1, 9, 9, 9]]
    assert batch.attention_mask.tolist() == [[1] * 5, [1, 1, 0, 0, 0]]
    assert batch.token_type_ids.tolist() == [[1] * 5, [1, 1, 0, 0, 0]]
    assert batch.labels.tolist() == [[1, 2], [0, 0]]
