"""Trains and measures question answering: SQuAD files, spans as labels, moved questions."""

import math
import random
import sys
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from transformers import AutoModelForQuestionAnswering, DistilBertForQuestionAnswering, PretrainedConfig

from models.data import PADDING_LOGIT, Batch, DataError, Item
from models.devset import DevOptions, DevSet
from models.files import Reading
from models.finetune.contexts import crop_paragraphs, join_paragraphs, swap_words
from models.finetune.cores import on_all_cores
from models.finetune.options import FinetuneOptions
from models.finetune.recipe import CardText, Output, Post, Recipe
from models.losses import span_loss
from models.squad import QAExample, read_squad
from models.tasks.answer_metrics import (
    NO_ANSWER_ERROR,
    PRECISION,
    RECALL,
    SCORE_ERROR,
    Language,
    abstaining,
    buckets,
    calibration_error,
    exact_match,
    f1,
)
from models.tasks.answers import Answer, QAResult
from models.tasks.base import AnyTask, InputTooLongError, Metrics
from models.tasks.directory.model import max_positions
from models.tasks.directory.thresholds import BY_TOKENS, NEVER
from models.tasks.qa import NULL_POSITION, SPEC, QAEncoding, QAInput, QuestionAnswering, Window, threshold_of

ABSTAINS = "Trained to say that a passage holds no answer; the threshold stands in `config.json`."
ABSTAINS_NOT = "Not trained to abstain: it answers questions that the passage does not answer."

CARD = CardText(
    pipeline_tag="question-answering",
    tags="onnx, extractive-question-answering",
    summary="Extractive question answering: the answer to a question is a span of the passage that comes with it.",
    counted="{n_answerable:.0f} answerable of {n:.0f} questions",
    figures={
        "exact": "exact match, answerable questions",
        "f1": "F1, answerable questions",
        "exact_all": "exact match, all questions, abstaining",
        "f1_all": "F1, all questions, abstaining",
        "best_f1_all": "F1, all questions, best threshold for this set",
        SCORE_ERROR: "expected calibration error of `score`, 10 bins of equal width",
        NO_ANSWER_ERROR: "expected calibration error of `no_answer_score`, the same",
        PRECISION: "abstaining: precision",
        RECALL: "abstaining: recall",
        **{
            f"{key}{name}": f"abstaining: {share}, contexts of {length}"
            for name, length, *_ in buckets()
            for key, share in ((PRECISION, "precision"), (RECALL, "recall"))
        },
    },
    limits=(
        "The answer is always a span of the passage: nothing is composed, counted or reasoned out, and what the "
        "passage\n  says is not checked. Passages unlike the training data are answered less well than the table "
        "says.",
        "Windows of at most 384 tokens; a longer passage is read by overlapping windows.",
    ),
    load="""\
from optimum.onnxruntime import ORTModelForQuestionAnswering
from transformers import AutoTokenizer, pipeline

model = ORTModelForQuestionAnswering.from_pretrained("{directory}", subfolder="{subfolder}", file_name="{file}")
tokenizer = AutoTokenizer.from_pretrained("{directory}")
answer = pipeline("question-answering", model=model, tokenizer=tokenizer)""",
)


class QADev(DevSet):
    """Questions with their answers, by SQuAD's metrics, or by MLQA's for languages other than English.

    `exact` and `f1` are of the best span over the answerable questions. Where the set has unanswerable ones and
    the model abstains, `exact_all` and `f1_all` are over all questions with the threshold in force,
    `best_f1_all` with the `best_threshold` for this set (as the official script's --na-prob-file), and
    `never_answering` is what an empty answer to everything would get. `best_threshold` is in logits, one for contexts
    of any length; it is left out where the threshold in force is not known. Then so are precision and recall of
    abstaining by the contexts' tokens, which the model's tokenizer counts. The calibration errors of `score` and
    `no_answer_score` are in points of 100.
    """

    def __init__(self, path: Path, options: DevOptions) -> None:
        self.examples = read_squad(path, options.reading)
        self.skipped = options.reading.skipped.get(path, 0)
        self.language = options.language
        if all(example.is_impossible for example in self.examples):
            raise DataError(f"{path} has no answerable question to measure on; use a different --dev")
        self.inputs = [QAInput(example.question, example.context) for example in self.examples]

    def score(self, results: Sequence[QAResult], task: AnyTask | None = None) -> Metrics:
        impossible = np.array([example.is_impossible for example in self.examples])
        if not (isinstance(task, QuestionAnswering) and task.abstains and impossible.any()):
            return score_answers(results, self.examples, self.language)
        tokens = np.array([len(task.encode(item).places) for item in self.inputs])
        thresholds = np.array([threshold_of(task.thresholds, count) for count in tokens.tolist()], dtype=np.float64)
        metrics = score_answers(results, self.examples, self.language, thresholds)
        return metrics | abstaining(np.array([null_lead(result) > 0 for result in results]), impossible, tokens)


def score_answers(
    results: Sequence[QAResult],
    examples: Sequence[QAExample],
    language: Language = "en",
    thresholds: NDArray[np.float64] | None = None,
) -> Metrics:
    """Compute the metrics of `QADev`. `thresholds`: in force for each question, in logits, where they are known."""
    texts = [result.answers[0].text if result.answers else "" for result in results]
    golds = [example.answers for example in examples]
    exacts = np.array([exact_match(*pair, language) for pair in zip(texts, golds, strict=True)])
    f1s = np.array([f1(*pair, language) for pair in zip(texts, golds, strict=True)])
    scores = np.array([result.answers[0].score if result.answers else 0.0 for result in results])
    impossible = np.array([float(example.is_impossible) for example in examples])
    leads = np.array([null_lead(result) for result in results])
    answerable = impossible == 0
    metrics = {
        "n": float(len(examples)),
        "n_answerable": float(answerable.sum()),
        "exact": 100 * float(exacts[answerable].mean()),
        "f1": 100 * float(f1s[answerable].mean()),
    }
    if answerable.all() or np.isnan(leads).any():
        metrics[SCORE_ERROR] = calibration_error(scores[answerable], exacts[answerable])
        return metrics
    no_answer_scores = np.array([result.no_answer_score for result in results], dtype=np.float64)
    metrics[SCORE_ERROR] = calibration_error(scores, np.where(answerable, exacts, 0.0))
    metrics[NO_ANSWER_ERROR] = calibration_error(no_answer_scores, impossible)
    metrics |= abstaining(leads > 0, ~answerable)
    metrics["exact_all"] = 100 * float(np.where(leads > 0, impossible, exacts).mean())
    metrics["f1_all"] = 100 * float(np.where(leads > 0, impossible, f1s).mean())
    metrics["never_answering"] = 100 * float(impossible.mean())
    known = np.zeros(len(leads)) if thresholds is None else thresholds
    best_f1_all, best_threshold = _best_threshold(f1s, impossible, leads + known)
    metrics["best_f1_all"] = 100 * best_f1_all
    if thresholds is not None:
        metrics["best_threshold"] = best_threshold
    return metrics


def null_lead(result: QAResult) -> float:
    """Returns: by how many logits the null span leads the best span; NaN if the model was not trained to abstain."""
    if result.no_answer_score is None:
        return math.nan
    if not result.answers:
        return math.inf
    smallest = sys.float_info.min
    return math.log(max(result.no_answer_score, smallest)) - math.log(max(result.answers[0].score, smallest))


def _best_threshold(
    f1s: NDArray[np.float64], impossible: NDArray[np.float64], leads: NDArray[np.float64]
) -> tuple[float, float]:
    """Find the threshold of the null's lead that gives the best mean F1. Returns: that F1, and the threshold."""
    order = np.argsort(leads)
    # Answering the first k questions by rising lead, for k = 0 to n.
    totals = impossible.sum() + np.concatenate([[0.0], np.cumsum((f1s - impossible)[order])])
    k = int(totals.argmax())
    ordered = leads[order]
    below = ordered[max(k - 1, 0)] - (k == 0)
    above = ordered[min(k, len(ordered) - 1)]
    middle = (below + above) / 2 if np.isfinite(above) else below + 1.0
    return float(totals[k] / len(leads)), float(middle)


class QARecipe(Recipe[QuestionAnswering]):
    """Spans of SQuAD files; a model that sees unanswerable questions learns to abstain."""

    spec = SPEC
    model_class = AutoModelForQuestionAnswering
    student_class = DistilBertForQuestionAnswering
    optimum_task = "question-answering"
    own_options = ("doc_stride", "moved_questions", "swapped_questions", "cropped", "joined", "removed", "language")
    card = CARD

    def __init__(self, options: FinetuneOptions, tokenizer: Any, config: PretrainedConfig) -> None:
        # tokenizer: one of transformers' fast ones, which have no common type
        self.doc_stride = options.doc_stride
        self.reading = Reading(quoting=options.quoting, skip_bad=options.skip_bad)
        self.examples = [example for path in options.train for example in read_squad(path, self.reading)]
        self.examples += more_questions(self.examples, options)
        self.abstains = any(example.is_impossible for example in self.examples)
        self.task = QuestionAnswering(
            tokenizer.backend_tokenizer,
            max_length=min(options.max_length, max_positions(config.to_dict())),
            thresholds=(0.0, ()) if self.abstains else NEVER,
        )

    def items(self, _: object = None) -> list[Item]:
        """Raises: DataError if there is nothing to train on, or a question leaves no room for its context."""
        return encode_examples(self.task, self.examples, self.doc_stride)

    def hard_loss(self, output: Output, batch: Batch) -> Tensor:
        start_logits, end_logits = self.logits(output, batch).unbind(dim=1)
        return span_loss(start_logits, end_logits, batch.labels[:, 0], batch.labels[:, 1])

    def logits(self, output: Output, batch: Batch) -> Tensor:
        """Stack starts and ends as two distributions over the positions. Shape: (batch, 2, seq_len)."""
        logits = torch.stack([output.start_logits, output.end_logits], dim=1).float()
        return logits.masked_fill(batch.attention_mask[:, None] == 0, PADDING_LOGIT)

    def distributions(self) -> tuple[int, int]:
        return 2, 0

    def record(self, config: PretrainedConfig, metrics: dict[str, float]) -> None:
        if self.abstains:
            config.no_answer_threshold = metrics.get("best_threshold", 0.0)
            vars(config).pop(BY_TOKENS, None)  # of the checkpoint that this began from; it would decide

    @staticmethod
    def dev_set(path: Path, options: DevOptions) -> QADev:
        return QADev(path, options)

    @staticmethod
    def ask(post: Post, item: QAInput) -> QAResult:
        reply = post("/qa", {"question": item.question, "context": item.context})
        return QAResult(tuple(Answer(**answer) for answer in reply["answers"]), reply["no_answer_score"])

    @staticmethod
    def card_limits(task: QuestionAnswering) -> Sequence[str]:
        return [ABSTAINS if task.abstains else ABSTAINS_NOT]


def more_questions(examples: Sequence[QAExample], options: FinetuneOptions) -> list[QAExample]:
    """Make what the flags ask for; questions that stand in the files several times are made into others once."""
    distinct, seed = list({example.id: example for example in examples}.values()), options.seed
    return [
        *move_questions(examples, options.moved_questions, seed),
        *swap_words(distinct, options.swapped_questions, seed),
        *crop_paragraphs(distinct, options.cropped, seed),
        *join_paragraphs(distinct, options.joined, seed, removed=False),
        *join_paragraphs(distinct, options.removed, seed + 1, removed=True),
    ]


def move_questions(examples: Sequence[QAExample], fraction: float, seed: int) -> list[QAExample]:
    """Make unanswerable questions of answerable ones: each is asked of another paragraph of its article.

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
        if context != example.context and not mentions(context, example.answers):
            moved.append(replace(example, id=f"{example.id}-moved", context=context, answers=(), answer_starts=()))
    return moved


def mentions(text: str, answers: Iterable[str]) -> bool:
    """Tell whether any of the answers stands in the text, in any case, be it within a word."""
    return any(answer.lower() in text.lower() for answer in answers)


def label_windows(example: QAExample, encoding: QAEncoding) -> list[Item]:
    """Label each window of an example with the token positions (start, end) of the answer that most annotators gave
    among those that it holds whole, or of the null.

    A window that holds none where an annotator marked it, but an answer's text elsewhere, is left out: it may answer
    the question or may not, and either label would be wrong half of the time. Other windows of the question stay.
    """
    marked = Counter(zip(example.answers, example.answer_starts, strict=True))
    spans = [_tokens_of(encoding, begin, begin + len(text)) for (text, begin), _ in marked.most_common()]
    labelled = []
    for window in encoding.windows:
        stop = window.first + window.length
        held = next((span for span in spans if window.first <= span[0] <= span[1] < stop), None)
        if held:
            positions = [token - window.first + window.position for token in held]
        elif mentions(_text_of(window, encoding), example.answers):
            continue
        else:
            positions = [NULL_POSITION, NULL_POSITION]
        labelled.append(Item(window, np.array(positions)))
    return labelled


def _tokens_of(encoding: QAEncoding, begin: int, end: int) -> tuple[int, int]:
    """Find the first and the last context token of a span of the context."""
    first = int(np.searchsorted(encoding.offsets[:, 1], begin, side="right"))
    last = int(np.searchsorted(encoding.offsets[:, 0], end, side="left")) - 1
    return first, last


def _text_of(window: Window, encoding: QAEncoding) -> str:
    """Cut out the part of the context that a window holds."""
    held = encoding.offsets[window.first : window.first + window.length]
    return encoding.item.context[held[0, 0] : held[-1, 1]] if len(held) else ""


def encode_examples(task: QuestionAnswering, examples: Sequence[QAExample], doc_stride: int) -> list[Item]:
    """Raises: DataError if there is nothing to train on, or a question leaves no room for its context."""
    items = on_all_cores(lambda piece: _encode(task, piece, doc_stride), examples)
    if not items:
        raise DataError("the training files hold no question")
    return items


def _encode(task: QuestionAnswering, examples: Iterable[QAExample], doc_stride: int) -> list[Item]:
    items: list[Item] = []
    for example in examples:
        try:
            encoding = task.encode(QAInput(example.question, example.context, doc_stride=doc_stride))
        except InputTooLongError as error:
            raise DataError(f"question {example.id}: {error}") from error
        items += label_windows(example, encoding)
    return items
