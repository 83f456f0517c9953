"""Trains question answering: SQuAD files, spans as labels, questions asked of another paragraph."""

import argparse
import random
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers import AutoModelForQuestionAnswering, DistilBertForQuestionAnswering, PretrainedConfig

from models.data import Batch, DataError, Item, QAExample, read_squad
from models.finetune.recipe import Output, Recipe
from models.losses import span_loss
from models.tasks.base import InputTooLongError
from models.tasks.directory import max_positions
from models.tasks.qa import NULL_POSITION, QAEncoding, QAInput, QuestionAnswering

PADDING_LOGIT = -1e4  # below any real logit, and finite: 0 · inf would make a divergence NaN


class QARecipe(Recipe[QuestionAnswering]):
    """Spans of SQuAD files; a model that sees unanswerable questions learns to abstain."""

    model_class = AutoModelForQuestionAnswering
    student_class = DistilBertForQuestionAnswering

    def __init__(self, arguments: argparse.Namespace, tokenizer: Any, config: PretrainedConfig) -> None:
        # tokenizer: one of transformers' fast ones, which have no common type
        self.doc_stride = arguments.doc_stride
        self.examples = [example for path in arguments.train for example in read_squad(path)]
        self.examples += move_questions(self.examples, arguments.moved_questions, arguments.seed)
        self.abstains = any(example.is_impossible for example in self.examples)
        self.task = QuestionAnswering(
            tokenizer.backend_tokenizer,
            max_length=min(arguments.max_length, max_positions(config.to_dict())),
            no_answer_threshold=0.0 if self.abstains else None,
        )

    def items(self, _: object = None) -> list[Item]:
        """Raises: DataError if there is nothing to train on, or a question leaves no room for its context."""
        return encode_examples(self.task, self.examples, self.doc_stride)

    def hard_loss(self, output: Output, batch: Batch) -> Tensor:
        start_logits, end_logits = self.logits(output, batch).unbind(dim=1)
        return span_loss(start_logits, end_logits, batch.labels[:, 0], batch.labels[:, 1])

    def logits(self, output: Output, batch: Batch) -> Tensor:
        """Starts and ends as two distributions over the positions. Shape: (batch, 2, seq_len)."""
        both = torch.stack([output.start_logits, output.end_logits], dim=1).float()
        return both.masked_fill(batch.attention_mask[:, None] == 0, PADDING_LOGIT)

    def record(self, config: PretrainedConfig, metrics: dict[str, float]) -> None:
        if self.abstains:
            config.no_answer_threshold = metrics.get("best_threshold", 0.0)


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


def label_windows(example: QAExample, encoding: QAEncoding) -> list[Item]:
    """The windows of an example, each with the token positions (start, end) of the answer that most annotators gave."""
    if example.is_impossible:
        return [Item(window, np.array([NULL_POSITION, NULL_POSITION])) for window in encoding.windows]
    (text, begin), _ = Counter(zip(example.answers, example.answer_starts, strict=True)).most_common(1)[0]
    first = int(np.searchsorted(encoding.offsets[:, 1], begin, side="right"))
    last = int(np.searchsorted(encoding.offsets[:, 0], begin + len(text), side="left")) - 1
    labelled = []
    for window in encoding.windows:
        held = window.first <= first <= last < window.first + window.length
        shift = window.position - window.first
        positions = (first + shift, last + shift) if held else (NULL_POSITION, NULL_POSITION)
        labelled.append(Item(window, np.array(positions)))
    return labelled


def encode_examples(task: QuestionAnswering, examples: Iterable[QAExample], doc_stride: int) -> list[Item]:
    """Raises: DataError if there is nothing to train on, or a question leaves no room for its context."""
    items: list[Item] = []
    for example in examples:
        try:
            encoding = task.encode(QAInput(example.question, example.context, doc_stride=doc_stride))
        except InputTooLongError as error:
            raise DataError(f"question {example.id}: {error}") from error
        items += label_windows(example, encoding)
    if not items:
        raise DataError("the training files hold no question")
    return items
