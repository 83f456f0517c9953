"""Keeps what frozen teachers answer to every window in a file that every student reads."""

import hashlib
import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from tqdm import tqdm
from transformers import PreTrainedModel

from models.data import Item, collate
from models.files import write_whole
from models.finetune.cores import on_all_cores
from models.finetune.recipe import Recipe
from models.predict import forward
from models.tasks.base import Features
from models.teaching.readers import Reader

LOGITS = "logits-{}"
TOKENS = {"cpu": 4096, "cuda": 65536}  # of a batch, padding counted
KEEP_EVERY = 100  # batches, after which a run that is killed goes on


def taught_items(
    directory: Path,
    teachers: Sequence[PreTrainedModel],
    recipe: Recipe[Any],
    items: Sequence[Item],
    *,
    bf16: bool,
    readers: Sequence[Reader] = (),
) -> list[Item]:
    """Add the teachers' logits to the items, from the file of these teachers and these windows, which is made or
    finished first where it is not whole. The name of the file is their checksum.

    `readers`: how each of the teachers reads; by default the windows as they are.
    """
    asked, places = _distinct(items, readers)
    windows = [_windows(asked, reader) for reader in readers] or [[item.window for item in asked] for _ in teachers]
    shapes = [_shape(recipe, item) for item in asked]
    sizes = np.array([len(teachers) * rows * columns for rows, columns in shapes])
    ends = np.cumsum(sizes)
    kind = "f32" if all(recipe.distributions()) else "f16"  # labels are few, positions many
    path = directory / LOGITS.format(f"{_checksum(teachers, windows, readers, bf16)}.{kind}")
    if not path.exists():
        directory.mkdir(parents=True, exist_ok=True)
        _fill(path, teachers, recipe, windows, shapes, ends, bf16=bf16)
    _counter(path).unlink(missing_ok=True)
    logits = np.memmap(path, dtype=_dtype(path), mode="r")
    taught = [
        logits[end - size : end].reshape(len(teachers), *shape)
        for shape, size, end in zip(shapes, sizes, ends, strict=True)
    ]
    return [replace(item, taught=taught[place]) for item, place in zip(items, places, strict=True)]


def _distinct(items: Sequence[Item], readers: Sequence[Reader]) -> tuple[list[Item], list[int]]:
    """Take what teachers are asked, and the place in it of each item: of a text with several windows, teachers that all
    read whole texts are asked once.
    """
    if not (readers and all(reader.difference for reader in readers)):
        return list(items), list(range(len(items)))
    first_items = {item.text: item for item in reversed(items)}
    numbers = {text: number for number, text in enumerate(first_items)}
    return list(first_items.values()), [numbers[item.text] for item in items]


def _windows(items: Sequence[Item], reader: Reader) -> list[Features]:
    """Take what a teacher reads of each item."""
    if not reader.difference:
        return [item.window for item in items]
    texts = [item.text for item in items if item.text is not None]
    assert len(texts) == len(items), "a recipe whose teachers read whole texts keeps them"
    return on_all_cores(reader.read, texts)


def _shape(recipe: Recipe[Any], item: Item) -> tuple[int, int]:
    """Count distributions, and classes of each; tokens, where either are positions."""
    distributions, classes = recipe.distributions()
    return distributions or len(item.window), classes or len(item.window)


def _dtype(path: Path) -> type[np.floating]:
    return np.float32 if path.suffix == ".f32" else np.float16


def _counter(path: Path) -> Path:
    """Return where the batches that an unfinished file holds are counted."""
    return path.with_suffix(".json")


def _fill(
    path: Path,
    teachers: Sequence[PreTrainedModel],
    recipe: Recipe[Any],
    windows: Sequence[Sequence[Features]],
    shapes: Sequence[tuple[int, int]],
    ends: NDArray[np.int64],
    *,
    bf16: bool,
) -> None:
    """Ask each teacher of its windows. `windows`: for each teacher, one an item."""
    unfinished, counter = path.with_name(f"{path.name}.part"), _counter(path)
    done = json.loads(counter.read_text())["batches"] if counter.exists() and unfinished.exists() else 0
    logits = np.memmap(unfinished, dtype=_dtype(path), mode="r+" if done else "w+", shape=(int(ends[-1]),))
    lengths = [max(map(len, of_item)) for of_item in zip(*windows, strict=True)]
    batches = list(_batches(lengths, TOKENS[teachers[0].device.type]))
    for number, indices in enumerate(tqdm(batches, desc="teacher's logits", unit="batch", mininterval=5), start=1):
        if number <= done:
            continue
        answers = ask(teachers, recipe, [[of_teacher[index] for index in indices] for of_teacher in windows], bf16=bf16)
        for index, answer in zip(indices, answers, strict=True):
            rows, columns = shapes[index]
            kept = answer[:, :rows, :columns].ravel()
            logits[ends[index] - len(kept) : ends[index]] = kept
        if number % KEEP_EVERY == 0:
            logits.flush()
            write_whole(counter, json.dumps({"batches": number}))
    logits.flush()
    os.replace(unfinished, path)


@torch.inference_mode()
def ask(
    teachers: Sequence[PreTrainedModel], recipe: Recipe[Any], windows: Sequence[Sequence[Features]], *, bf16: bool
) -> NDArray[np.float32]:
    """Ask each teacher of its windows. Shape: (items, teachers, distributions, classes), padded as `collate` pads."""
    outputs = []
    for teacher, of_teacher in zip(teachers, windows, strict=True):
        items = [Item(window, np.zeros(0)) for window in of_teacher]
        batch = collate(items, pad_token_id=0, device=teacher.device)
        with torch.autocast(teacher.device.type, torch.bfloat16, enabled=bf16):
            output = forward(teacher.eval(), batch)
        outputs.append(recipe.logits(output, batch).float())
    stacked: NDArray[np.float32] = torch.stack(outputs, dim=1).cpu().numpy()
    return stacked


def _batches(lengths: Sequence[int], tokens: int) -> Iterator[list[int]]:
    """Group the indices of items of like lengths, shortest first."""
    batch: list[int] = []
    for index in sorted(range(len(lengths)), key=lambda index: lengths[index]):
        if batch and (len(batch) + 1) * lengths[index] > tokens:
            yield batch
            batch = []
        batch.append(index)
    if batch:
        yield batch


def _checksum(
    teachers: Sequence[PreTrainedModel], windows: Sequence[Sequence[Features]], readers: Sequence[Reader], bf16: bool
) -> str:
    digest = hashlib.sha256(f"bf16 {bf16}".encode())
    for of_teacher in windows:
        for window in of_teacher:
            digest.update(window.input_ids.tobytes() + window.token_type_ids.tobytes() + b"|")
    for reader in readers:
        digest.update(reader.checksum())
    for teacher in teachers:
        for weight in teacher.state_dict().values():
            digest.update(weight.detach().cpu().numpy().tobytes())
    return digest.hexdigest()[:16]
