"""Trains and measures classification: TSV files, and texts without labels, which the teacher labels."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import accuracy_score, f1_score, matthews_corrcoef
from torch import Tensor, stack, zeros_like
from transformers import AutoModelForSequenceClassification, DistilBertForSequenceClassification, PretrainedConfig

from models.data import Batch, DataError, Item
from models.devset import DevOptions, DevSet
from models.files import Reading, TextExample, composed, read_lines, read_tsv
from models.finetune.cores import on_all_cores
from models.finetune.options import FinetuneOptions
from models.finetune.recipe import CardText, Output, Post, Recipe
from models.losses import UNLABELLED, label_loss, multi_label_loss
from models.sentences import read_sentences
from models.tasks.base import AnyTask, Metrics
from models.tasks.classification import (
    ALL_LABELS,
    MULTI_LABEL,
    SPEC,
    Classification,
    ClassificationInput,
    ClassificationResult,
    Label,
    read_labels,
)
from models.tasks.directory.model import max_positions

LABEL = "label"  # the column of the labels
SHOWN_LABELS = 5

CARD = CardText(
    pipeline_tag="text-classification",
    tags="onnx",
    summary="Classification of texts.",
    counted="{n:.0f} texts",
    figures={"accuracy": "accuracy", "f1": "F1", "matthews": "Matthews correlation"},
    limits=(
        "A text is given one of the labels that the model was trained with, whatever it is about; a score is the "
        "model's\n  own and not a frequency that was checked.",
        "Windows of at most 384 tokens; of a longer text the rest is cut off, or all windows are averaged "
        "(`on_overflow`).",
    ),
    load="""\
from optimum.onnxruntime import ORTModelForSequenceClassification
from transformers import AutoTokenizer, pipeline

model = ORTModelForSequenceClassification.from_pretrained("{directory}", subfolder="{subfolder}", file_name="{file}")
tokenizer = AutoTokenizer.from_pretrained("{directory}")
classify = pipeline("text-classification", model=model, tokenizer=tokenizer)""",
)


class ClassificationDev(DevSet):
    """TSV with labels, by GLUE's metrics: `accuracy`, `matthews`, and `f1` of the second of two labels in their order,
    averaged over the labels where there are more. Where several labels may hold, or none, `accuracy` is of the whole
    set of them, and there is no `matthews`.
    """

    def __init__(self, path: Path, options: DevOptions) -> None:
        self.path = path
        self.multi_label = options.multi_label or options.config.get("problem_type") == MULTI_LABEL
        self.examples = read_tsv(path, LABEL, options.reading, may_lack_label=self.multi_label)
        if not any(labels_of(example, self.multi_label) for example in self.examples):
            raise DataError(f"{path}: no row has a label, so there is nothing to measure; use a different --dev")
        self.skipped = options.reading.skipped.get(path, 0)
        self.inputs = [
            ClassificationInput(example.text, example.text_pair, ALL_LABELS, options.on_overflow)
            for example in self.examples
        ]

    def check(
        self, task: AnyTask | None, answer: Callable[[ClassificationInput], ClassificationResult] | None = None
    ) -> None:
        """Refuse a set that has a label that the model lacks. Raises: DataError."""
        if isinstance(task, Classification):
            self.check_labels(task.labels, task.multi_label)
        elif answer is not None:
            self.check_labels([label.label for label in answer(self.inputs[0]).labels], self.multi_label)

    def score(self, results: Sequence[ClassificationResult], task: AnyTask | None = None) -> Metrics:
        """Raises: DataError if the set has a label that the model lacks."""
        self.check(task)
        multi_label = task.multi_label if isinstance(task, Classification) else self.multi_label
        golds = [labels_of(example, multi_label) for example in self.examples]
        labels = sorted({label for gold in golds for label in gold})
        if not set(labels) & {composed(label.label) for result in results for label in result.labels}:
            raise DataError(f"{self.path}: the model has never given one of its labels, which are {shown(labels)}")
        metrics = {"n": float(len(results))}
        if multi_label:
            guesses = [[composed(label.label) for label in result.labels if label.score > 0.5] for result in results]
            expected, predicted = _indicators(golds, labels), _indicators(guesses, labels)
            is_exact = [set(gold) == set(guess) for gold, guess in zip(golds, guesses, strict=True)]
            metrics["accuracy"] = 100 * float(np.mean(is_exact))
            by_label = [f1_score(expected[:, i], predicted[:, i], zero_division=0.0) for i in range(len(labels))]
            metrics["f1"] = 100 * float(np.mean(by_label))
            return metrics
        firsts, best = [gold[0] for gold in golds], [composed(result.labels[0].label) for result in results]
        metrics["accuracy"] = 100 * float(accuracy_score(firsts, best))
        if len(labels) == 2 and set(best) <= set(labels):
            metrics["f1"] = 100 * float(f1_score(firsts, best, pos_label=labels[1], zero_division=0.0))
        else:
            metrics["f1"] = 100 * float(f1_score(firsts, best, labels=labels, average="macro", zero_division=0.0))
        metrics["matthews"] = 100 * float(matthews_corrcoef(firsts, best))
        return metrics

    def check_labels(self, known: Sequence[str], multi_label: bool) -> None:
        """Refuse a set that has other labels. Raises: DataError."""
        labels = {label for example in self.examples for label in labels_of(example, multi_label)}
        if unknown := sorted(labels - set(map(composed, known))):
            raise DataError(f"{self.path}: the model has no label {shown(unknown)}; its labels are {', '.join(known)}")


def shown(labels: Sequence[str]) -> str:
    """Name the first few."""
    more = f" and {len(labels) - SHOWN_LABELS} more" if len(labels) > SHOWN_LABELS else ""
    return ", ".join(map(repr, labels[:SHOWN_LABELS])) + more


def labels_of(example: TextExample, multi_label: bool) -> tuple[str, ...]:
    """Split the labels of one text, which stand in its column with `|` between them."""
    if not multi_label:
        return (example.label,)
    return tuple(part.strip() for part in example.label.split("|") if part.strip())


def _indicators(rows: Sequence[Sequence[str]], labels: Sequence[str]) -> NDArray[np.bool_]:
    return np.array([[label in row for label in labels] for row in rows])


class ClassificationRecipe(Recipe[Classification]):
    """One label for each text, or several where `--multi-label` says so. A long text trains by each of its windows."""

    spec = SPEC
    model_class = AutoModelForSequenceClassification
    student_class = DistilBertForSequenceClassification
    optimum_task = "text-classification"
    reads_whole_texts = True
    own_options = ("multi_label", "on_overflow", "unlabelled", "unlabelled_texts")
    card = CARD

    def __init__(self, options: FinetuneOptions, tokenizer: Any, config: PretrainedConfig) -> None:
        # tokenizer: one of transformers' fast ones, which have no common type
        if (options.unlabelled or options.unlabelled_texts) and not options.teacher:
            raise DataError("texts without labels teach nothing without a teacher; give --teacher, or no --unlabelled")
        self.on_overflow = options.on_overflow
        self.reading = reading = Reading(quoting=options.quoting, skip_bad=options.skip_bad)
        labels = [*map(composed, read_labels(self.teacher(options, config)))] if options.teacher else []
        multi_label = config.problem_type == MULTI_LABEL if options.teacher else options.multi_label
        if options.multi_label and not multi_label:
            raise DataError(
                f"{options.teacher[0]} gives a text one label (problem_type in its config.json), so its student cannot "
                "learn several; remove --multi-label, or use a teacher for several"
            )
        self.examples = [
            example for path in options.train for example in read_tsv(path, LABEL, reading, may_lack_label=multi_label)
        ]
        self.unlabelled = [sentence for path in options.unlabelled for sentence in read_sentences(path, reading)]
        self.unlabelled += [
            text for path in options.unlabelled_texts for text in dict.fromkeys(read_lines(path)) if text.strip()
        ]
        found = {label for example in self.examples for label in labels_of(example, multi_label)}
        if not options.teacher:
            labels = sorted(found)
        elif unknown := sorted(found - set(labels)):
            raise DataError(
                f"the training files hold the label {shown(unknown)}, and the teacher knows {', '.join(labels)}"
            )
        if not labels:
            raise DataError("no row of the training files has a label; add examples of some")
        if len(labels) < 2 and not multi_label:
            raise DataError(f"the training files contain only one label ({', '.join(labels)}); add examples of others")
        self.task = Classification(
            tokenizer.backend_tokenizer,
            labels,
            multi_label=multi_label,
            max_length=min(options.max_length, max_positions(config.to_dict())),
        )

    def items(self, _: object = None) -> list[Item]:
        labelled = [(example, self._label(example)) for example in self.examples]
        no_label = np.full(len(self.task.labels) if self.task.multi_label else (), UNLABELLED)
        labelled += [(TextExample(text, None, ""), no_label) for text in self.unlabelled]
        return on_all_cores(self._encode, labelled)

    def _encode(self, labelled: Sequence[tuple[TextExample, NDArray[np.int64]]]) -> list[Item]:
        items = []
        for example, label in labelled:
            encoding = self.task.encode(
                ClassificationInput(example.text, example.text_pair, on_overflow=self.on_overflow)
            )
            items += [Item(window, label, text=(example.text, example.text_pair)) for window in encoding.windows]
        return items

    def configure(self, config: PretrainedConfig) -> None:
        config.id2label = dict(enumerate(self.task.labels))
        config.label2id = {label: index for index, label in enumerate(self.task.labels)}
        config.problem_type = MULTI_LABEL if self.task.multi_label else "single_label_classification"

    def hard_loss(self, output: Output, batch: Batch) -> Tensor:
        return (multi_label_loss if self.task.multi_label else label_loss)(output.logits, batch.labels)

    def logits(self, output: Output, _: Batch) -> Tensor:
        """Make one distribution over the labels, or for each label one of yes and no."""
        if self.task.multi_label:
            return stack([output.logits, zeros_like(output.logits)], dim=-1)
        logits: Tensor = output.logits[:, None]
        return logits

    def distributions(self) -> tuple[int, int]:
        return (len(self.task.labels), 2) if self.task.multi_label else (1, len(self.task.labels))

    @staticmethod
    def dev_set(path: Path, options: DevOptions) -> ClassificationDev:
        return ClassificationDev(path, options)

    @staticmethod
    def ask(post: Post, item: ClassificationInput) -> ClassificationResult:
        pair = {} if item.text_pair is None else {"text_pair": item.text_pair}
        options = {"top_k": item.top_k, "on_overflow": item.on_overflow}
        reply = post("/classify", {"text": item.text, **options, **pair})
        return ClassificationResult(tuple(Label(**label) for label in reply["labels"]))

    @staticmethod
    def card_limits(task: Classification) -> Sequence[str]:
        return [f"The labels are {', '.join(f'`{label}`' for label in task.labels)}."]

    def _label(self, example: TextExample) -> NDArray[np.int64]:
        indices = [self.task.labels.index(label) for label in labels_of(example, self.task.multi_label)]
        if not self.task.multi_label:
            return np.array(indices[0])
        return np.isin(np.arange(len(self.task.labels)), indices).astype(np.int64)
