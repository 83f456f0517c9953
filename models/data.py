"""Makes padded batches of windows of like lengths out of labelled windows."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from models.tasks.base import Features
from models.tasks.errors import InputError

PADDING_LOGIT = -1e4  # below any real logit, and finite: 0 · inf would make a divergence NaN


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
    """A window to train on; `label` is what its recipe makes of it, of one shape and type in all its items.

    `taught` is what the teachers answered, if that was kept. Shape: (teachers, distributions, classes), of which
    one may be seq_len.
    `second` is a window to compare with it. `text` is the whole text, or pair, that the window is of, where teachers
    may read that.
    """

    window: Features
    label: NDArray[np.generic]
    taught: NDArray[np.floating] | None = None
    second: Features | None = None
    text: tuple[str, str | None] | None = None


@dataclass(frozen=True, slots=True)
class Batch:
    """Padded windows. Shapes: inputs (batch, seq_len) int64; labels (batch, ...); taught (batch, teachers, ...).

    The windows to compare with follow after the others, in the order of `compared`, the rows that they belong to.
    """

    input_ids: Tensor
    attention_mask: Tensor
    token_type_ids: Tensor
    labels: Tensor
    taught: Tensor | None = None
    compared: Tensor | None = None

    def __len__(self) -> int:
        return len(self.input_ids)


def collate(items: Sequence[Item], *, pad_token_id: int, device: torch.device) -> Batch:
    compared = [row for row, item in enumerate(items) if item.second is not None]
    windows = [item.window for item in items] + [item.second for item in items if item.second is not None]
    longest = max(len(window) for window in windows)
    input_ids = np.full((len(windows), longest), pad_token_id, dtype=np.int64)
    attention_mask = np.zeros_like(input_ids)
    token_type_ids = np.zeros_like(input_ids)
    for row, window in enumerate(windows):
        length = len(window)
        input_ids[row, :length] = window.input_ids
        token_type_ids[row, :length] = window.token_type_ids
        attention_mask[row, :length] = 1
    taught = [item.taught for item in items if item.taught is not None]
    return Batch(
        _to(device, input_ids),
        _to(device, attention_mask),
        _to(device, token_type_ids),
        _to(device, np.stack([item.label for item in items])),
        _to(device, _padded(taught)) if taught else None,
        _to(device, np.array(compared)) if compared else None,
    )


def _to(device: torch.device, array: NDArray[Any]) -> Tensor:  # Any: numbers of whatever kind
    tensor = torch.from_numpy(array)
    if device.type == "cuda":  # so that the copy waits for nothing
        tensor = tensor.pin_memory()
    return tensor.to(device, non_blocking=True)


def _padded(logits: Sequence[NDArray[np.floating]]) -> NDArray[np.floating]:
    """Stack arrays whose last two dimensions may differ."""
    rows, columns = (max(array.shape[axis] for array in logits) for axis in (-2, -1))
    stacked = np.full((len(logits), *logits[0].shape[:-2], rows, columns), PADDING_LOGIT, dtype=logits[0].dtype)
    for block, array in zip(stacked, logits, strict=True):
        block[..., : array.shape[-2], : array.shape[-1]] = array
    return stacked
