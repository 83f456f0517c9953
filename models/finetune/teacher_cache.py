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
from models.finetune.recipe import Recipe
from models.predict import forward

TOKENS = {"cpu": 4096, "cuda": 65536}  # of a batch, padding counted
KEEP_EVERY = 100  # batches, after which a run that is killed goes on


def taught_items(
    directory: Path, teachers: Sequence[PreTrainedModel], recipe: Recipe[Any], items: Sequence[Item], *, bf16: bool
) -> list[Item]:
    """Add the teachers' logits to the items, from the file of these teachers and these windows, which is made or
    finished first where it is not whole. The name of the file is their checksum.
    """
    shapes = [_shape(recipe, item) for item in items]
    sizes = np.array([len(teachers) * rows * columns for rows, columns in shapes])
    ends = np.cumsum(sizes)
    path = directory / f"logits-{_checksum(teachers, items, bf16)}.f16"
    if not path.exists():
        directory.mkdir(parents=True, exist_ok=True)
        _fill(path, teachers, recipe, items, ends, bf16=bf16)
    logits = np.memmap(path, dtype=np.float16, mode="r")
    return [
        replace(item, taught=logits[end - size : end].reshape(len(teachers), *shape))
        for item, shape, size, end in zip(items, shapes, sizes, ends, strict=True)
    ]


def _shape(recipe: Recipe[Any], item: Item) -> tuple[int, int]:
    """Count distributions, and classes of each or, where these are positions, tokens."""
    distributions, classes = recipe.distributions()
    return distributions, classes or len(item.window)


def _fill(
    path: Path,
    teachers: Sequence[PreTrainedModel],
    recipe: Recipe[Any],
    items: Sequence[Item],
    ends: NDArray[np.int64],
    *,
    bf16: bool,
) -> None:
    unfinished, counter = path.with_suffix(".part"), path.with_suffix(".json")
    done = json.loads(counter.read_text())["batches"] if counter.exists() and unfinished.exists() else 0
    logits = np.memmap(unfinished, dtype=np.float16, mode="r+" if done else "w+", shape=(int(ends[-1]),))
    device = teachers[0].device
    batches = list(_batches(items, TOKENS[device.type]))
    for number, indices in enumerate(tqdm(batches, desc="teacher's logits", unit="batch", mininterval=5), start=1):
        if number <= done:
            continue
        answers = ask(teachers, recipe, [items[index] for index in indices], bf16=bf16)
        for index, answer in zip(indices, answers, strict=True):
            columns = _shape(recipe, items[index])[1]
            kept = answer[..., :columns].ravel()
            logits[ends[index] - len(kept) : ends[index]] = kept
        if number % KEEP_EVERY == 0:
            logits.flush()
            counter.with_suffix(".tmp").write_text(json.dumps({"batches": number}))
            os.replace(counter.with_suffix(".tmp"), counter)
    logits.flush()
    os.replace(unfinished, path)
    counter.unlink(missing_ok=True)


@torch.inference_mode()
def ask(
    teachers: Sequence[PreTrainedModel], recipe: Recipe[Any], items: Sequence[Item], *, bf16: bool
) -> NDArray[np.float16]:
    """Ask all teachers. Shape: (items, teachers, distributions, classes), padded as `collate` pads."""
    outputs = []
    for teacher in teachers:
        batch = collate(items, pad_token_id=0, device=teacher.device)
        with torch.autocast(teacher.device.type, torch.bfloat16, enabled=bf16):
            output = forward(teacher.eval(), batch)
        outputs.append(recipe.logits(output, batch).float())
    stacked: NDArray[np.float16] = torch.stack(outputs, dim=1).half().cpu().numpy()
    return stacked


def _batches(items: Sequence[Item], tokens: int) -> Iterator[list[int]]:
    """Group the indices of windows of like lengths, shortest first."""
    batch: list[int] = []
    for index in sorted(range(len(items)), key=lambda index: len(items[index].window)):
        if batch and (len(batch) + 1) * len(items[index].window) > tokens:
            yield batch
            batch = []
        batch.append(index)
    if batch:
        yield batch


def _checksum(teachers: Sequence[PreTrainedModel], items: Sequence[Item], bf16: bool) -> str:
    digest = hashlib.sha256(f"bf16 {bf16}".encode())
    for item in items:
        digest.update(item.window.input_ids.tobytes() + item.window.token_type_ids.tobytes() + b"|")
    for teacher in teachers:
        for weight in teacher.state_dict().values():
            digest.update(weight.detach().cpu().numpy().tobytes())
    return digest.hexdigest()[:16]
