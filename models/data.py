"""Training data: readers, windows with their labels, and batches of like lengths."""

import hashlib
import json
import random
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypedDict

import numpy as np
import torch
from torch import Tensor

from models.tasks.base import InputTooLongError
from models.tasks.qa import NULL_POSITION, QAEncoding, QAInput, QuestionAnswering, Window


class DataError(ValueError):
    """A data file that cannot be used; the text names the file and the place."""


class DataSource(TypedDict):
    """What a run was trained on, for its provenance."""

    name: str
    sha256: str
    bytes: int


@dataclass(frozen=True, slots=True)
class QAExample:
    """A question of a SQuAD file; `answer_starts` are code points of the context. No answers: unanswerable."""

    id: str
    title: str
    question: str
    context: str
    answers: tuple[str, ...]
    answer_starts: tuple[int, ...]

    @property
    def is_impossible(self) -> bool:
        return not self.answers


@dataclass(frozen=True, slots=True)
class QAWindow:
    """A window and the positions of its answer; both are NULL_POSITION where it holds none."""

    window: Window
    start: int
    end: int


def read_squad(path: Path) -> list[QAExample]:
    """SQuAD 1.1 or 2.0 JSON. Raises: DataError."""
    try:
        articles = json.loads(path.read_text(encoding="utf-8"))["data"]
        examples = [
            QAExample(
                id=str(qa["id"]),
                title=article.get("title", ""),
                question=qa["question"].strip(),
                context=paragraph["context"],
                answers=() if qa.get("is_impossible") else tuple(answer["text"] for answer in qa["answers"]),
                answer_starts=()
                if qa.get("is_impossible")
                else tuple(answer["answer_start"] for answer in qa["answers"]),
            )
            for article in articles
            for paragraph in article["paragraphs"]
            for qa in paragraph["qas"]
        ]
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror}") from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataError(f"{path} is not SQuAD JSON (data, paragraphs, qas, answers): {error!r}") from error
    for example in examples:
        for text, start in zip(example.answers, example.answer_starts, strict=True):
            if example.context[start : start + len(text)] != text:
                raise DataError(f"{path}: question {example.id}: {text!r} does not stand at answer_start {start}")
    return examples


def read_dev(path: Path) -> list[QAExample]:
    """A SQuAD file to measure on. Raises: DataError, also if no question of it has an answer."""
    examples = read_squad(path)
    if all(example.is_impossible for example in examples):
        raise DataError(f"{path} has no answerable question to measure on; give another --dev")
    return examples


def describe(path: Path) -> DataSource:
    content = path.read_bytes()
    return {"name": path.name, "sha256": hashlib.sha256(content).hexdigest(), "bytes": len(content)}


def move_questions(examples: Sequence[QAExample], fraction: float, seed: int) -> list[QAExample]:
    """Unanswerable questions out of answerable ones: each asked of another paragraph of its own article.

    A paragraph that holds any of the question's answers is left out, since it may answer it too.
    """
    paragraphs: dict[str, list[str]] = defaultdict(list)
    for example in examples:
        if example.context not in paragraphs[example.title][-1:]:
            paragraphs[example.title].append(example.context)
    moved = []
    draw = random.Random(seed)
    for example in examples:
        if example.is_impossible or draw.random() >= fraction:
            continue
        context = draw.choice(paragraphs[example.title])
        if context != example.context and not any(answer.lower() in context.lower() for answer in example.answers):
            moved.append(replace(example, id=f"{example.id}-moved", context=context, answers=(), answer_starts=()))
    return moved


def label_windows(example: QAExample, encoding: QAEncoding) -> list[QAWindow]:
    """The windows of an example with the token positions of the answer that most annotators gave."""
    if example.is_impossible:
        return [QAWindow(window, NULL_POSITION, NULL_POSITION) for window in encoding.windows]
    (text, begin), _ = Counter(zip(example.answers, example.answer_starts, strict=True)).most_common(1)[0]
    first = int(np.searchsorted(encoding.offsets[:, 1], begin, side="right"))
    last = int(np.searchsorted(encoding.offsets[:, 0], begin + len(text), side="left")) - 1
    labelled = []
    for window in encoding.windows:
        held = window.first <= first <= last < window.first + window.length
        shift = window.position - window.first
        positions = (first + shift, last + shift) if held else (NULL_POSITION, NULL_POSITION)
        labelled.append(QAWindow(window, *positions))
    return labelled


def encode_examples(task: QuestionAnswering, examples: Iterable[QAExample], doc_stride: int) -> list[QAWindow]:
    """Raises: DataError if there is nothing to train on, or a question leaves no room for its context."""
    windows = []
    for example in examples:
        try:
            encoding = task.encode(QAInput(example.question, example.context, doc_stride=doc_stride))
        except InputTooLongError as error:
            raise DataError(f"question {example.id}: {error}") from error
        windows += label_windows(example, encoding)
    if not windows:
        raise DataError("the training files hold no question")
    return windows


def length_buckets(lengths: Sequence[int], batch_size: int, *, seed: int, epoch: int) -> list[list[int]]:
    """Batches of indices of like lengths in a random order that depends on seed and epoch alone.

    Lengths are sorted within random pools of 50 batches, so that padding is small and no two epochs are alike.
    """
    draw = np.random.default_rng([seed, epoch])
    order = draw.permutation(len(lengths))
    pool = 50 * batch_size
    batches = []
    for at in range(0, len(order), pool):
        by_length = sorted(order[at : at + pool].tolist(), key=lambda index: lengths[index])
        batches += [by_length[i : i + batch_size] for i in range(0, len(by_length), batch_size)]
    return [batches[i] for i in draw.permutation(len(batches))]


@dataclass(frozen=True, slots=True)
class QABatch:
    """Padded windows. Shapes: inputs (batch, seq_len), starts and ends (batch,), all int64."""

    input_ids: Tensor
    attention_mask: Tensor
    token_type_ids: Tensor
    starts: Tensor
    ends: Tensor


def collate(windows: Sequence[QAWindow], *, pad_token_id: int, device: torch.device) -> QABatch:
    longest = max(len(item.window) for item in windows)
    input_ids = np.full((len(windows), longest), pad_token_id, dtype=np.int64)
    attention_mask = np.zeros_like(input_ids)
    token_type_ids = np.zeros_like(input_ids)
    for row, item in enumerate(windows):
        length = len(item.window)
        input_ids[row, :length] = item.window.input_ids
        token_type_ids[row, :length] = item.window.token_type_ids
        attention_mask[row, :length] = 1
    starts = np.array([item.start for item in windows])
    ends = np.array([item.end for item in windows])
    arrays = (input_ids, attention_mask, token_type_ids, starts, ends)
    return QABatch(*(torch.from_numpy(array).to(device) for array in arrays))
