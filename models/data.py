"""Makes padded batches of windows of like lengths out of labelled windows."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from models.tasks.base import Features
from models.tasks.errors import InputError


class DataError(InputError):
    """A data file that cannot be used; the text names the file and the place."""


def length_buckets(
    lengths: Sequence[int] | NDArray[np.integer], batch_size: int, *, seed: int, epoch: int
) -> list[NDArray[np.int64]]:
    """Make batches of indices of like lengths, in a random order that depends only on seed and epoch.

    Lengths are sorted within random pools of 50 batches, so that padding is small and no two epochs are alike.
    """
    draw = np.random.default_rng([seed, epoch])
    lengths = np.asarray(lengths)
    order = draw.permutation(len(lengths))
    pool = 50 * batch_size
    for start in range(0, len(order), pool):
        indices = order[start : start + pool]
        order[start : start + pool] = indices[np.argsort(lengths[indices], kind="stable")]
    batches = [order[start : start + batch_size] for start in range(0, len(order), batch_size)]
    return [batches[i] for i in draw.permutation(len(batches))]


@dataclass(frozen=True, slots=True)
class Item:
    """A window to train on; `label` is what its recipe makes of it, of one shape and type in all its items."""

    window: Features
    label: NDArray[np.generic]


@dataclass(frozen=True, slots=True)
class Batch:
    """Padded windows. Shapes: inputs (batch, seq_len) int64; labels (batch, ...)."""

    input_ids: Tensor
    attention_mask: Tensor
    token_type_ids: Tensor
    labels: Tensor

    def __len__(self) -> int:
        return len(self.input_ids)


def collate(items: Sequence[Item], *, pad_token_id: int, device: torch.device) -> Batch:
    longest = max(len(item.window) for item in items)
    input_ids = np.full((len(items), longest), pad_token_id, dtype=np.int64)
    attention_mask = np.zeros_like(input_ids)
    token_type_ids = np.zeros_like(input_ids)
    for row, item in enumerate(items):
        length = len(item.window)
        input_ids[row, :length] = item.window.input_ids
        token_type_ids[row, :length] = item.window.token_type_ids
        attention_mask[row, :length] = 1
    arrays = (input_ids, attention_mask, token_type_ids, np.stack([item.label for item in items]))
    return Batch(*(torch.from_numpy(array).to(device) for array in arrays))
