"""Classification in training: TSV files, and texts without labels of which the teacher knows more."""

import argparse
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, stack, zeros_like
from transformers import AutoModelForSequenceClassification, DistilBertForSequenceClassification, PretrainedConfig

from models.data import Batch, DataError, Item, TextExample, read_sentences, read_tsv
from models.devset import LABEL, labels_of
from models.finetune.recipe import Output, Recipe
from models.losses import UNLABELLED, label_loss, multi_label_loss
from models.tasks.classification import Classification, ClassificationInput
from models.tasks.directory import max_positions

MULTI_LABEL = "multi_label_classification"


class ClassificationRecipe(Recipe[Classification]):
    """One label for each text, or several where `--multi-label` says so. A long text trains by each of its windows."""

    model_class = AutoModelForSequenceClassification
    student_class = DistilBertForSequenceClassification

    def __init__(self, arguments: argparse.Namespace, tokenizer: Any, config: PretrainedConfig) -> None:
        # tokenizer: one of transformers' fast ones, which have no common type
        if arguments.unlabelled and not arguments.teacher:
            raise DataError("texts without labels teach nothing without a teacher; give --teacher, or no --unlabelled")
        self.on_overflow = arguments.on_overflow
        self.examples = [example for path in arguments.train for example in read_tsv(path, LABEL)]
        self.unlabelled = [sentence for path in arguments.unlabelled for sentence in read_sentences(path)]
        multi_label = arguments.multi_label
        if arguments.teacher:
            known = config.id2label or {}
            labels = [known[index] for index in sorted(known)]
            multi_label = config.problem_type == MULTI_LABEL
        else:
            labels = sorted({label for example in self.examples for label in labels_of(example, multi_label)})
        if len(labels) < (1 if multi_label else 2):
            raise DataError(f"the training files hold one label alone ({', '.join(labels)}); give examples of others")
        self.task = Classification(
            tokenizer.backend_tokenizer,
            labels,
            multi_label=multi_label,
            max_length=min(arguments.max_length, max_positions(config.to_dict())),
        )

    def items(self, _: object = None) -> list[Item]:
        """Raises: DataError if a label is none of the teacher's."""
        labelled = [(example, self._label(example)) for example in self.examples]
        none = np.full(len(self.task.labels) if self.task.multi_label else (), UNLABELLED)
        labelled += [(TextExample(text, None, ""), none) for text in self.unlabelled]
        items = []
        for example, label in labelled:
            encoding = self.task.encode(
                ClassificationInput(example.text, example.text_pair, on_overflow=self.on_overflow)
            )
            items += [Item(window, label) for window in encoding.windows]
        return items

    def configure(self, config: PretrainedConfig) -> None:
        config.id2label = dict(enumerate(self.task.labels))
        config.label2id = {label: index for index, label in enumerate(self.task.labels)}
        config.problem_type = MULTI_LABEL if self.task.multi_label else "single_label_classification"

    def hard_loss(self, output: Output, batch: Batch) -> Tensor:
        return (multi_label_loss if self.task.multi_label else label_loss)(output.logits, batch.labels)

    def logits(self, output: Output, _: Batch) -> Tensor:
        """One distribution over the labels, or for each label one of yes and no."""
        if self.task.multi_label:
            return stack([output.logits, zeros_like(output.logits)], dim=-1)
        logits: Tensor = output.logits[:, None]
        return logits

    def _label(self, example: TextExample) -> NDArray[np.int64]:
        indices = [self._index(label) for label in labels_of(example, self.task.multi_label)]
        if not self.task.multi_label:
            return np.array(indices[0])
        return np.isin(np.arange(len(self.task.labels)), indices).astype(np.int64)

    def _index(self, label: str) -> int:
        labels: Sequence[str] = self.task.labels
        if label not in labels:
            raise DataError(f"the training files hold the label {label!r}, and the teacher knows {', '.join(labels)}")
        return labels.index(label)
