"""Trains and measures the recognition of named entities: tagged words, as CoNLL columns or JSONL."""

import json
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor
from transformers import AutoModelForTokenClassification, DistilBertForTokenClassification, PretrainedConfig

from models.data import Batch, DataError, Item
from models.devset import DevOptions, DevSet
from models.files import Faults, Reading, composed, cut, json_lines, looks_like_json, read_text, split_lines
from models.finetune.cores import on_all_cores
from models.finetune.options import FinetuneOptions
from models.finetune.recipe import CardText, Output, Post, Recipe
from models.losses import UNLABELLED, label_loss
from models.tasks.base import AnyTask, Metrics
from models.tasks.directory.model import label_names, max_positions
from models.tasks.entities import (
    OUTSIDE,
    SPEC,
    EntitiesEncoding,
    EntitiesInput,
    EntitiesResult,
    Entity,
    EntityRecognition,
    Window,
)
from models.tasks.text.label_scheme import Scheme

JSON = {".json", ".jsonl", ".ndjson"}
OTHER = {".csv": "CSV", ".conllu": "CoNLL-U"}  # whose columns would be taken for others
TAG = re.compile(r"O|[BILUES]-.+")
DOCUMENT_START = "-DOCSTART-"  # the only word of a line between two documents of CoNLL 2003
INSIDE = {"B": "I", "U": "I", "S": "I"}  # the prefix of the further tokens of a word, by that of its first

CARD = CardText(
    pipeline_tag="token-classification",
    tags="onnx",
    summary="Named entities in texts.",
    counted="{n:.0f} texts with {entities:.0f} entities",
    figures={"f1": "F1 of whole entities", "precision": "precision", "recall": "recall"},
    limits=(
        "An entity is one of the kinds that the model was trained with; a score is the model's own and not a frequency "
        "that\n  was checked.",
        "A longer text is read in overlapping windows, each without what stands before and behind it.",
    ),
    load="""\
from optimum.onnxruntime import ORTModelForTokenClassification
from transformers import AutoTokenizer, pipeline

model = ORTModelForTokenClassification.from_pretrained("{directory}", subfolder="{subfolder}", file_name="{file}")
tokenizer = AutoTokenizer.from_pretrained("{directory}")
find = pipeline("token-classification", model=model, tokenizer=tokenizer, aggregation_strategy="simple")""",
)

Span = tuple[str, int, int]  # the kind of an entity, its first word and its last


@dataclass(frozen=True, slots=True)
class TaggedText:
    """The words of a sentence or a document, each with its tag."""

    words: tuple[str, ...]
    tags: tuple[str, ...]

    @property
    def text(self) -> str:
        return " ".join(self.words)

    def starts(self) -> list[int]:
        """Find where each word begins in the text, in code points."""
        lengths = [len(word) + 1 for word in self.words]
        return [0, *np.cumsum(lengths[:-1]).tolist()]


def read_tagged(path: Path, reading: Reading | None = None) -> list[TaggedText]:
    """Read words with their tags: JSON with `tokens` and `ner_tags`, on lines or as a list, or CoNLL's columns, of
    which the first is the word and the last its tag, with a blank line between two texts.

    Raises: DataError.
    """
    reading = reading or Reading()
    faults = Faults(path, "texts")
    suffix = path.suffix.lower()
    if suffix in OTHER:
        raise DataError(f"{path} is {OTHER[suffix]} by its suffix; give columns of CoNLL 2003, or JSON lines")
    content = read_text(path)
    texts = list((_json_texts if suffix in JSON or looks_like_json(content) else _column_texts)(content, faults))
    faults.settle(reading, len(texts))
    if not texts:
        raise DataError(f"{path} holds no word with a tag")
    return texts


def _column_texts(content: str, faults: Faults) -> Iterator[TaggedText]:
    rows: list[list[str]] = []
    fault: tuple[int, str] | None = None
    for number, line in enumerate([*split_lines(content), ""], start=1):
        columns = _columns(line)
        if columns and columns[0] != DOCUMENT_START:
            if columns[0] == "#" and not rows and not TAG.fullmatch(columns[-1]):
                continue  # a comment, such as MultiCoNER's and CoNLL-U's
            if len(columns) < 2:
                fault = fault or (number, f"{cut(line)} is a word without a tag")
            elif rows and len(columns) != len(rows[0]):
                message = f"{cut(line)} has {len(columns)} columns and the text's first line {len(rows[0])}"
                fault = fault or (number, message)
            rows.append(columns)
            continue
        if fault:
            faults.add(f"line {fault[0]}", fault[1])
        elif rows:
            yield TaggedText(tuple(row[0] for row in rows), tuple(composed(row[-1]) for row in rows))
        rows, fault = [], None


def _columns(line: str) -> list[str]:
    """Split a line at tabs, if it has any, or at spaces: a word may hold spaces of other kinds."""
    separator = "\t" if "\t" in line.strip() else " "
    return [column.strip() for column in line.split(separator) if column.strip()]


def _json_rows(content: str, faults: Faults) -> Iterator[tuple[str, object]]:
    if content.lstrip().startswith("["):
        with suppress(ValueError, RecursionError):  # lines of lists are told below
            rows = json.loads(content)
            yield from ((f"entry {number}", row) for number, row in enumerate(rows, start=1))
            return
    yield from json_lines(content, faults)


def _json_texts(content: str, faults: Faults) -> Iterator[TaggedText]:
    for place, row in _json_rows(content, faults):
        words, tags = (_list_of(row, key) for key in ("tokens", "ner_tags"))
        if not words or len(words) != len(tags):
            faults.add(place, "it lacks tokens, or ner_tags of the same number")
        elif not all(isinstance(value, str) and value.strip() for value in (*words, *tags)):
            faults.add(place, "tokens and ner_tags must be texts, such as Oslo and B-LOC, and no numbers")
        elif any("\ud800" <= character <= "\udfff" for character in "".join(words + tags)):
            faults.add(place, "tokens or ner_tags hold half of a surrogate pair, which is not a character")
        else:
            yield TaggedText(tuple(words), tuple(map(composed, tags)))


def _list_of(row: object, key: str) -> list[Any]:  # of whatever the file has
    values = row.get(key) if isinstance(row, dict) else None
    return values if isinstance(values, list) else []


def spans_of(tags: Sequence[str], scheme: Scheme) -> list[Span]:
    """Put the tags of words together, as CoNLL's own script does."""
    spans: list[Span] = []
    for place, tag in enumerate(tags):
        if tag == OUTSIDE:
            continue
        if spans and spans[-1][2] == place - 1 and scheme.continues(tags[place - 1], tag):
            spans[-1] = (*spans[-1][:2], place)
        else:
            spans.append((tag.split("-", 1)[-1], place, place))
    return spans


def tags_of(text: TaggedText, result: EntitiesResult) -> list[str]:
    """Give each word the label of its first token, which some tokenizers let begin with the space before it."""
    labels = {entity.start: entity.label for entity in result.entities}
    return [labels.get(start, labels.get(start - 1, OUTSIDE)) for start in text.starts()]


class EntitiesDev(DevSet):
    """Words with their tags: `precision`, `recall` and `f1` of whole entities, as by CoNLL's script. A word has the
    label of its first token.
    """

    def __init__(self, path: Path, options: DevOptions) -> None:
        self.path = path
        self.texts = read_tagged(path, options.reading)
        self.skipped = options.reading.skipped.get(path, 0)
        scheme = Scheme(sorted({tag for text in self.texts for tag in text.tags}))
        self.golds = [spans_of(text.tags, scheme) for text in self.texts]
        if not any(self.golds):
            raise DataError(f"{path} has no entity to measure on; use a different --dev")
        self.inputs = [EntitiesInput(text.text, aggregation="none") for text in self.texts]

    def check(
        self,
        task: AnyTask | None,
        answer: Callable[[EntitiesInput], EntitiesResult] | None = None,  # noqa: ARG002 - it tells no labels
    ) -> None:
        """Refuse a set with entities of a kind that the model lacks. Raises: DataError."""
        if not isinstance(task, EntityRecognition):
            return
        kinds = {label.split("-", 1)[-1] for label in task.labels} - {OUTSIDE}
        if unknown := sorted({kind for gold in self.golds for kind, _, _ in gold} - kinds):
            raise DataError(
                f"{self.path}: the model knows no entities of the kind {', '.join(unknown)}; its kinds are "
                f"{', '.join(sorted(kinds))}"
            )

    def score(self, results: Sequence[EntitiesResult], task: AnyTask | None = None) -> Metrics:
        found_labels = {entity.label for result in results for entity in result.entities}
        scheme = Scheme(task.labels if isinstance(task, EntityRecognition) else sorted(found_labels))
        right = found = expected = 0
        for text, gold, result in zip(self.texts, self.golds, results, strict=True):
            guess = spans_of(tags_of(text, result), scheme)
            right += len(set(guess) & set(gold))
            found, expected = found + len(guess), expected + len(gold)
        return {
            "n": float(len(results)),
            "entities": float(expected),
            "precision": 100 * right / max(found, 1),
            "recall": 100 * right / expected,
            "f1": 200 * right / (found + expected),
        }


class EntitiesRecipe(Recipe[EntityRecognition]):
    """A label for each token: a word's own for its first, and that of the inside of the same entity for its others."""

    spec = SPEC
    model_class = AutoModelForTokenClassification
    student_class = DistilBertForTokenClassification
    optimum_task = "token-classification"
    reads_pairs = False
    card = CARD

    def __init__(self, options: FinetuneOptions, tokenizer: Any, config: PretrainedConfig) -> None:
        # tokenizer: one of transformers' fast ones, which have no common type
        self.reading = Reading(quoting=options.quoting, skip_bad=options.skip_bad)
        self.texts = [text for path in options.train for text in read_tagged(path, self.reading)]
        tags = {tag for text in self.texts for tag in text.tags}
        if options.teacher:
            labels = label_names(self.teacher(options, config))
            if unknown := sorted(tags - set(labels)):
                raise DataError(
                    f"the training files hold the tag {', '.join(unknown)}, and the teacher knows {', '.join(labels)}"
                )
        else:
            labels = [OUTSIDE, *sorted((tags | set(map(inside, tags))) - {OUTSIDE})]
        if len(labels) < 2:
            raise DataError("the training files hold no entity; add texts with some")
        self.task = EntityRecognition(
            tokenizer.backend_tokenizer,
            labels,
            max_length=min(options.max_length, max_positions(config.to_dict())),
        )

    def items(self, _: object = None) -> list[Item]:
        return on_all_cores(self._encode, self.texts)

    def _encode(self, texts: Sequence[TaggedText]) -> list[Item]:
        items = []
        for text in texts:
            encoding = self.task.encode(EntitiesInput(text.text))
            labels = self._labels(text, encoding)
            items += [Item(window, self._of_window(window, labels)) for window in encoding.windows if window.length]
        return items

    def _labels(self, text: TaggedText, encoding: EntitiesEncoding) -> list[int]:
        """Number the labels of the text's tokens; a tag whose inside the teacher does not know says nothing of it."""
        numbers = {label: number for number, label in enumerate(self.task.labels)}
        # By the last character of each: some tokenizers count the space before a word to it.
        words = np.searchsorted(text.starts(), encoding.offsets[:, 1] - 1, side="right") - 1
        return [
            numbers.get(inside(text.tags[word]) if place and words[place - 1] == word else text.tags[word], UNLABELLED)
            for place, word in enumerate(words)
        ]

    def _of_window(self, window: Window, labels: Sequence[int]) -> np.ndarray[Any, np.dtype[np.int64]]:
        """Shape: (max_length,), so that the items of all lengths are alike."""
        row = np.full(self.task.max_length, UNLABELLED)
        row[window.position : window.position + window.length] = labels[window.first : window.first + window.length]
        return row

    def configure(self, config: PretrainedConfig) -> None:
        config.id2label = dict(enumerate(self.task.labels))
        config.label2id = {label: index for index, label in enumerate(self.task.labels)}

    def hard_loss(self, output: Output, batch: Batch) -> Tensor:
        labels = batch.labels[:, : output.logits.shape[1]]
        return label_loss(output.logits[labels != UNLABELLED], labels[labels != UNLABELLED])

    def logits(self, output: Output, batch: Batch) -> Tensor:
        """Make a distribution over the labels for each position, of padding the even one."""
        logits: Tensor = output.logits.masked_fill(batch.attention_mask[:, :, None] == 0, 0)
        return logits

    def distributions(self) -> tuple[int, int]:
        return 0, len(self.task.labels)

    @staticmethod
    def dev_set(path: Path, options: DevOptions) -> EntitiesDev:
        return EntitiesDev(path, options)

    @staticmethod
    def ask(post: Post, item: EntitiesInput) -> EntitiesResult:
        fields: dict[str, object] = {
            "text": item.text,
            "aggregation": item.aggregation,
            "on_overflow": item.on_overflow,
        }
        return EntitiesResult(tuple(Entity(**entity) for entity in post("/entities", fields)["entities"]))

    @staticmethod
    def card_limits(task: EntityRecognition) -> Sequence[str]:
        return [f"The labels are {', '.join(f'`{label}`' for label in task.labels)}."]


def inside(tag: str) -> str:
    """Name the label of a token that goes on with a word of this tag."""
    prefix, dash, kind = tag.partition("-")
    return INSIDE.get(prefix, prefix) + dash + kind if dash else tag
