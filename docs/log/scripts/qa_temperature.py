"""Tries temperatures on the scores of a question answering bundle: fitted on one half of a dev set, told of the other.

From the root of the repository: python -m docs.log.scripts.qa_temperature bundles/qa $DATA/qa/squad2_dev.json
"""

import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from models.devset import DevOptions
from models.finetune.qa import QADev
from models.predict import load_bundle_run
from models.tasks.answer_metrics import calibration_error, exact_match
from models.tasks.qa import QuestionAnswering, log_sum_exp, null_logit, span_logits, threshold_of

TEMPERATURES = np.exp(np.linspace(np.log(0.5), np.log(4), 43))
ONE = int(np.abs(TEMPERATURES - 1).argmin())
Array = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Logits:
    """Of each question: the best span's logit, the null's less the threshold, whether the span is right or nothing is,
    and the log-sum-exp over all spans at every temperature.
    """

    best: Array
    null: Array
    right: Array
    impossible: Array
    totals: Array  # shape: (questions, temperatures)

    def scores(self, index: int) -> tuple[Array, Array]:
        """Compute `score` and `no_answer_score` as they are at a temperature."""
        temperature = TEMPERATURES[index]
        normalizer = np.logaddexp(self.totals[:, index], self.null / temperature)
        return np.exp(self.best / temperature - normalizer), np.exp(self.null / temperature - normalizer)

    def loss(self, index: int, half: NDArray[np.bool_]) -> float:
        """Compute the mean negative log-likelihood of: right, nothing to answer, or anything else."""
        score, no_answer_score = self.scores(index)
        rest = np.clip(1 - score - no_answer_score, 1e-9, 1)
        truth = np.where(self.impossible > 0, no_answer_score, np.where(self.right > 0, score, rest))
        return float(-np.log(np.clip(truth[half], 1e-9, 1)).mean())

    def errors(self, index: int, half: NDArray[np.bool_]) -> tuple[float, float]:
        score, no_answer_score = self.scores(index)
        return (
            calibration_error(score[half], self.right[half]),
            calibration_error(no_answer_score[half], self.impossible[half]),
        )


def ask(bundle: Path, dev: QADev) -> Logits:
    run, task = load_bundle_run(bundle, "qa")
    assert isinstance(task, QuestionAnswering)
    rows, totals = [], []
    for item, example in zip(tqdm(dev.inputs, unit="input"), dev.examples, strict=True):
        encoding = task.encode(item)
        outputs = [run(window) for window in encoding.windows]
        spans = span_logits(encoding, outputs)
        null_lead = null_logit(outputs) - (threshold_of(task.thresholds, len(encoding.places)) or 0.0)
        totals.append([log_sum_exp(spans / np.float32(temperature)) for temperature in TEMPERATURES])
        best_logit = float(spans.max())  # which decoding masks
        text = task.decode(encoding, outputs).answers[0].text
        is_right = float(not example.is_impossible and exact_match(text, example.answers))
        rows.append((best_logit, null_lead, is_right, float(example.is_impossible)))
    best, null, right, impossible = np.array(rows).T
    return Logits(best, null, right, impossible, np.array(totals))


def main(bundle: Path, dev: Path) -> None:
    logits = ask(bundle, QADev(dev, DevOptions()))
    everything = np.ones(len(logits.best), bool)
    sys.stdout.write("all: {:.1f} {:.1f}\n".format(*logits.errors(ONE, everything)))
    draw = np.random.default_rng(0)
    for number in range(1, 5):
        half = draw.random(len(everything)) < 0.5
        index = min(range(len(TEMPERATURES)), key=lambda index: logits.loss(index, half))
        for name, place in (("1.00", ONE), (f"{TEMPERATURES[index]:.2f}", index)):
            score, no_answer_score = logits.errors(place, ~half)
            loss = logits.loss(place, ~half)
            sys.stdout.write(f"half {number}, T {name}: {score:.1f} {no_answer_score:.1f}, loss {loss:.2f}\n")


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
