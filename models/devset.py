"""Labelled sets to measure on: the inputs that a client would send, and the scores of what came back."""

import math
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from scipy.stats import pearsonr, spearmanr
from sklearn.metrics import accuracy_score, f1_score, matthews_corrcoef
from tqdm import tqdm

from models.data import DataError, QAExample, TextExample, read_squad, read_tsv
from models.tasks.base import AnyTask, Metrics, TaskName
from models.tasks.classification import Classification, ClassificationInput, ClassificationResult
from models.tasks.qa import QAInput, QAResult, QuestionAnswering, exact_match, f1
from models.tasks.similarity import EmbeddingInput
from models.tasks.texts import OnOverflow

LABEL = "label"
SCORE = "score"
ALL_LABELS = 100  # the most that a client may ask for


class DevSet(Protocol):
    """`inputs` are the kernel's; `score` takes a result for each. `figure` is the metric that decides."""

    @property
    def figure(self) -> str: ...

    @property
    def inputs(self) -> Sequence[Any]: ...

    def score(self, results: Sequence[Any], task: AnyTask | None = None) -> Metrics:
        """`task`: what gave the results, where it is known."""
        ...


def read_dev(task: TaskName, path: Path, *, on_overflow: OnOverflow = "truncate", multi_label: bool = False) -> DevSet:
    """`on_overflow` and `multi_label` are of classification alone. Raises: DataError."""
    if task == "qa":
        return QADev(path)
    if task == "classify":
        return ClassificationDev(path, on_overflow=on_overflow, multi_label=multi_label)
    return SimilarityDev(path)


def measure(answer: Callable[[Any], Any], dev: DevSet, task: AnyTask | None = None, *, name: str = "dev") -> Metrics:
    """`answer`: an input to its result; `name` stands before the progress bar."""
    return dev.score([answer(item) for item in tqdm(dev.inputs, desc=name, unit="input")], task)


class QADev:
    """SQuAD JSON, by SQuAD's metrics.

    `exact` and `f1` are of the best span over the answerable questions. Where the set has unanswerable ones and
    the model abstains, `exact_all` and `f1_all` are over all questions with the threshold in force,
    `best_f1_all` with the `best_threshold` for this set (as the official script's --na-prob-file), and
    `never_answering` is what an empty answer to everything would get. `best_threshold` is in logits; it is left out
    where the threshold in force is not known.
    """

    figure = "f1"

    def __init__(self, path: Path) -> None:
        self.examples = read_squad(path)
        if all(example.is_impossible for example in self.examples):
            raise DataError(f"{path} has no answerable question to measure on; give another --dev")
        self.inputs = [QAInput(example.question, example.context) for example in self.examples]

    def score(self, results: Sequence[QAResult], task: AnyTask | None = None) -> Metrics:
        metrics = score_answers(results, self.examples)
        shift = metrics.pop("threshold_shift", None)
        if shift is not None and isinstance(task, QuestionAnswering):
            metrics["best_threshold"] = (task.no_answer_threshold or 0.0) + shift
        return metrics


def score_answers(results: Sequence[QAResult], examples: Sequence[QAExample]) -> Metrics:
    """The metrics of `QADev`; `threshold_shift` is how far the threshold in force is from the best one, in logits."""
    texts = [result.answers[0].text if result.answers else "" for result in results]
    golds = [example.answers for example in examples]
    exacts = np.array([exact_match(*pair) for pair in zip(texts, golds, strict=True)])
    f1s = np.array([f1(*pair) for pair in zip(texts, golds, strict=True)])
    impossible = np.array([float(example.is_impossible) for example in examples])
    leads = np.array([_null_lead(result) for result in results])
    answerable = impossible == 0
    metrics = {
        "n": float(len(examples)),
        "n_answerable": float(answerable.sum()),
        "exact": 100 * float(exacts[answerable].mean()),
        "f1": 100 * float(f1s[answerable].mean()),
    }
    if answerable.all() or np.isnan(leads).any():
        return metrics
    metrics["exact_all"] = 100 * float(np.where(leads > 0, impossible, exacts).mean())
    metrics["f1_all"] = 100 * float(np.where(leads > 0, impossible, f1s).mean())
    metrics["never_answering"] = 100 * float(impossible.mean())
    best_f1_all, metrics["threshold_shift"] = _best_threshold(f1s, impossible, leads)
    metrics["best_f1_all"] = 100 * best_f1_all
    return metrics


def _null_lead(result: QAResult) -> float:
    """By how many logits the null span leads the best span; NaN if the model was not trained to abstain."""
    if result.no_answer_score is None:
        return math.nan
    if not result.answers:
        return math.inf
    smallest = sys.float_info.min
    return math.log(max(result.no_answer_score, smallest)) - math.log(max(result.answers[0].score, smallest))


def _best_threshold(
    f1s: NDArray[np.float64], impossible: NDArray[np.float64], leads: NDArray[np.float64]
) -> tuple[float, float]:
    """The best mean F1 when questions whose null leads by more than a threshold get no answer, and that threshold."""
    order = np.argsort(leads)
    # Answering the first k questions by rising lead, for k = 0 to n.
    totals = impossible.sum() + np.concatenate([[0.0], np.cumsum((f1s - impossible)[order])])
    k = int(totals.argmax())
    ordered = leads[order]
    below = ordered[max(k - 1, 0)] - (k == 0)
    above = ordered[min(k, len(ordered) - 1)]
    middle = (below + above) / 2 if np.isfinite(above) else below + 1.0
    return float(totals[k] / len(leads)), float(middle)


class ClassificationDev:
    """TSV with labels, by GLUE's metrics: `accuracy`, `matthews`, and `f1` of the second of two labels in their order,
    averaged over the labels where there are more. Where several labels may hold, `accuracy` is of the whole set of
    them, and there is no `matthews`.
    """

    figure = "accuracy"

    def __init__(self, path: Path, *, on_overflow: OnOverflow, multi_label: bool) -> None:
        self.path, self.multi_label = path, multi_label
        examples = read_tsv(path, LABEL)
        self.golds = [labels_of(example, multi_label) for example in examples]
        self.inputs = [
            ClassificationInput(example.text, example.text_pair, ALL_LABELS, on_overflow) for example in examples
        ]

    def score(self, results: Sequence[ClassificationResult], task: AnyTask | None = None) -> Metrics:
        """Raises: DataError if the set has a label that the model has not."""
        labels = sorted({label for gold in self.golds for label in gold})
        if isinstance(task, Classification) and (unknown := sorted(set(labels) - set(task.labels))):
            known = ", ".join(task.labels)
            raise DataError(f"{self.path}: the model has no label {unknown[0]!r}; its labels are {known}")
        metrics = {"n": float(len(results))}
        if self.multi_label:
            said = [[label.label for label in result.labels if label.score > 0.5] for result in results]
            gold, predicted = _indicators(self.golds, labels), _indicators(said, labels)
            whole = [set(gold) == set(guess) for gold, guess in zip(self.golds, said, strict=True)]
            metrics["accuracy"] = 100 * float(np.mean(whole))
            by_label = [f1_score(gold[:, i], predicted[:, i], zero_division=0.0) for i in range(len(labels))]
            metrics["f1"] = 100 * float(np.mean(by_label))
            return metrics
        golds, best = [gold[0] for gold in self.golds], [result.labels[0].label for result in results]
        metrics["accuracy"] = 100 * float(accuracy_score(golds, best))
        if len(labels) == 2 and set(best) <= set(labels):
            metrics["f1"] = 100 * float(f1_score(golds, best, pos_label=labels[1], zero_division=0.0))
        else:
            metrics["f1"] = 100 * float(f1_score(golds, best, labels=labels, average="macro", zero_division=0.0))
        metrics["matthews"] = 100 * float(matthews_corrcoef(golds, best))
        return metrics


def labels_of(example: TextExample, multi_label: bool) -> tuple[str, ...]:
    """Several labels of one text stand in its column with `|` between them."""
    if not multi_label:
        return (example.label,)
    return tuple(part.strip() for part in example.label.split("|") if part.strip())


def _indicators(rows: Sequence[Sequence[str]], labels: Sequence[str]) -> NDArray[np.bool_]:
    return np.array([[label in row for label in labels] for row in rows])


class SimilarityDev:
    """TSV with pairs and scores, by Pearson's and Spearman's correlation of the cosines with the scores."""

    figure = "spearman"

    def __init__(self, path: Path) -> None:
        examples = read_tsv(path, SCORE)
        if any(example.text_pair is None for example in examples):
            raise DataError(f"{path} has no second text to compare; its columns must be sentence1, sentence2, score")
        try:
            self.golds = [float(example.label) for example in examples]
        except ValueError as error:
            raise DataError(f"{path}: a score is not a number ({error}); correct it") from error
        if not np.isfinite(self.golds).all() or len(set(self.golds)) < 2:
            raise DataError(
                f"{path}: scores that are not finite, or all the same, correlate with nothing; correct them"
            )
        self.inputs = [EmbeddingInput(text) for item in examples for text in (item.text, item.text_pair or "")]

    def score(self, results: Sequence[NDArray[np.float32]], _: AnyTask | None = None) -> Metrics:
        vectors = np.stack(results).astype(np.float64)
        cosines = (vectors[::2] * vectors[1::2]).sum(axis=1)
        return {
            "n": float(len(self.golds)),
            "pearson": 100 * float(pearsonr(cosines, self.golds).statistic),
            "spearman": 100 * float(spearmanr(cosines, self.golds).statistic),
        }
