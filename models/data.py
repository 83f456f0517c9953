"""Reads labelled and plain text, and makes batches of like lengths."""

import csv
import json
import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from models.tasks.base import Features
from models.tasks.errors import InputError

# A full stop before a capital, or, in tokenized text, which is often lower-case, one that stands between spaces.
SENTENCE_END = re.compile(r"""(?:(?<=[.!?])|(?<=[.!?]["')]))\s+(?=["'(]*[A-Z0-9])|(?<=\s[.!?])\s+(?=\w)""")
TEXT_COLUMNS = (("text", "text_pair"), ("sentence1", "sentence2"), ("sentence", None))  # ours, GLUE's pairs and singles


class DataError(InputError):
    """A data file that cannot be used; the text names the file and the place."""


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
class TextExample:
    """A row of a TSV file: a text or a pair, and its label or score as it stands there."""

    text: str
    text_pair: str | None
    label: str


def read_squad(path: Path) -> list[QAExample]:
    """Read SQuAD 1.1 or 2.0 JSON. Raises: DataError."""
    try:
        articles = json.loads(path.read_text(encoding="utf-8"))["data"]
        examples = [
            QAExample(
                id=str(entry["id"]),
                title=article.get("title", ""),
                question=entry["question"].strip(),
                context=paragraph["context"],
                answers=() if entry.get("is_impossible") else tuple(answer["text"] for answer in entry["answers"]),
                answer_starts=()
                if entry.get("is_impossible")
                else tuple(answer["answer_start"] for answer in entry["answers"]),
            )
            for article in articles
            for paragraph in article["paragraphs"]
            for entry in paragraph["qas"]
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


def read_tsv(path: Path, label: str) -> list[TextExample]:
    """Read tab-separated rows under a header that names the columns: `text` and, for pairs, `text_pair` (or GLUE's
    `sentence`, `sentence1`, `sentence2`), and the column `label`.

    Raises: DataError.
    """
    rows = _rows(path)
    columns = next(((first, second) for first, second in TEXT_COLUMNS if first in rows[0]), None)
    if columns is None or label not in rows[0]:
        raise DataError(f"{path} lacks a column `text` or `{label}`; its header has {', '.join(rows[0])}")
    text, text_pair = columns
    examples = [TextExample(row[text], row.get(text_pair) if text_pair else None, row[label].strip()) for row in rows]
    for number, example in enumerate(examples, start=2):
        texts = (example.text, example.label) if example.text_pair is None else (example.text, example.text_pair)
        if not (example.label and all(part.strip() for part in texts)):
            raise DataError(f"{path}: row {number}: it lacks a text or its {label}; remove it")
    return examples


def read_sentences(path: Path) -> list[str]:
    """Read the distinct sentences of a file in their order.

    It is SQuAD JSON (contexts and questions), TSV (every text column) or plain text, one paragraph a line.

    Raises: DataError.
    """
    paragraphs: list[str] = []
    if path.suffix == ".json":
        for example in read_squad(path):
            paragraphs += [example.context, example.question]
    elif path.suffix == ".tsv":
        rows = _rows(path)
        names = [name for pair in TEXT_COLUMNS for name in pair if name and name in rows[0]]
        if not names:
            raise DataError(f"{path} lacks a column `text`; its header has {', '.join(rows[0])}")
        paragraphs = [row[name] for row in rows for name in names]
    else:
        paragraphs = _read_text(path).splitlines()
    sentences = [sentence for paragraph in dict.fromkeys(paragraphs) for sentence in SENTENCE_END.split(paragraph)]
    return list(dict.fromkeys(sentence.strip() for sentence in sentences if sentence.strip()))


def _rows(path: Path) -> list[dict[str, str]]:
    """Read the rows of a TSV file, quoted as in CSV. Raises: DataError."""
    csv.field_size_limit(sys.maxsize)  # a review may be longer than its default of 131,072
    rows: list[dict[str, str]] = []
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            for row in csv.DictReader(file, delimiter="\t", strict=True):
                if None in row or None in row.values():
                    raise csv.Error("it lacks the columns of the header")
                rows.append(row)
    except csv.Error as error:
        raise DataError(f"{path}: row {len(rows) + 2}: {error}; quote fields as in CSV") from error
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(_unreadable(path, error)) from error
    if not rows:
        raise DataError(f"{path} has no row below its header")
    return rows


def _read_text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(_unreadable(path, error)) from error


def _unreadable(path: Path, error: OSError | UnicodeDecodeError) -> str:
    if isinstance(error, OSError):
        return f"cannot read {path}: {error.strerror}"
    return f"{path} is not UTF-8 ({error.reason} at byte {error.start})"


def length_buckets(
    lengths: Sequence[int] | NDArray[np.integer], batch_size: int, *, seed: int, epoch: int
) -> list[NDArray[np.int64]]:
    """Make batches of indices of like lengths, in a random order that depends on seed and epoch alone.

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
