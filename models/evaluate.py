"""Task metrics over a predict function: the same for a checkpoint, a bundle and a running server."""

import argparse
import json
import math
import sys
import urllib.request
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import numpy as np
from tqdm import tqdm

from models.data import DataError, QAExample, read_dev
from models.predict import load_bundle_run, load_checkpoint
from models.tasks.base import Features, InputTooLongError, Outputs
from models.tasks.bundle import BundleError
from models.tasks.qa import Answer, QAInput, QAResult, QuestionAnswering, exact_match, f1

Metrics = dict[str, float]


def evaluate_qa(run: Callable[[Features], Outputs], task: QuestionAnswering, examples: Iterable[QAExample]) -> Metrics:
    """Metrics of a forward pass over one unpadded window at a time. Keys: see `score_answers`."""

    def answer(item: QAInput) -> QAResult:
        encoding = task.encode(item)
        return task.decode(encoding, [run(window) for window in encoding.windows])

    return score_answers(answer, examples, threshold=task.no_answer_threshold or 0.0)


def score_answers(
    answer: Callable[[QAInput], QAResult], examples: Iterable[QAExample], *, threshold: float = 0.0
) -> Metrics:
    """SQuAD's metrics in percent.

    `exact` and `f1` are of the best span over the answerable questions. Where the set has unanswerable ones and
    the model abstains, `exact_all` and `f1_all` are over all questions with the threshold in force,
    `best_f1_all` with the `best_threshold` for this set (as the official script's --na-prob-file), and
    `never_answering` is what an empty answer to everything would get.

    `threshold` is the one behind the answers' probabilities; `best_threshold` is on its scale, in logits.
    """
    rows = []  # exact, f1, no-answer exact (and f1), null's lead over the best span
    for example in examples:
        result = answer(QAInput(example.question, example.context))
        text = result.answers[0].text if result.answers else ""
        lead = _null_lead(result)
        rows.append((exact_match(text, example.answers), f1(text, example.answers), not example.answers, lead))
    exacts, f1s, impossible, leads = (np.array(column, dtype=float) for column in zip(*rows, strict=True))
    answerable = impossible == 0
    metrics = {
        "n": float(len(rows)),
        "n_answerable": float(answerable.sum()),
        "exact": 100 * float(exacts[answerable].mean()),
        "f1": 100 * float(f1s[answerable].mean()),
    }
    if answerable.all() or np.isnan(leads).any():
        return metrics
    metrics["exact_all"] = 100 * float(np.where(leads > 0, impossible, exacts).mean())
    metrics["f1_all"] = 100 * float(np.where(leads > 0, impossible, f1s).mean())
    metrics["never_answering"] = 100 * float(impossible.mean())
    best_f1_all, shift = _best_threshold(f1s, impossible, leads)
    metrics["best_f1_all"] = 100 * best_f1_all
    metrics["best_threshold"] = threshold + shift
    return metrics


def _null_lead(result: QAResult) -> float:
    """By how many logits the null span leads the best span; NaN if the model was not trained to abstain."""
    if result.no_answer_score is None:
        return math.nan
    if not result.answers:
        return math.inf
    smallest = sys.float_info.min
    return math.log(max(result.no_answer_score, smallest)) - math.log(max(result.answers[0].score, smallest))


def _best_threshold(f1s: np.ndarray, impossible: np.ndarray, leads: np.ndarray) -> tuple[float, float]:
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


def answer_over_http(url: str) -> Callable[[QAInput], QAResult]:
    """Answers from a running server's `/qa`."""

    def answer(item: QAInput) -> QAResult:
        body = json.dumps({"question": item.question, "context": item.context}).encode()
        request = urllib.request.Request(f"{url}/qa", body, {"content-type": "application/json"})
        with urllib.request.urlopen(request) as response:
            reply = json.load(response)
        answers = tuple(Answer(**answer) for answer in reply["answers"])
        return QAResult(answers, reply["no_answer_score"])

    return answer


def parse_arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m models.evaluate", description=__doc__)
    parser.add_argument("--task", choices=["qa"], required=True)
    parser.add_argument("--dev", type=Path, required=True, metavar="FILE", help="SQuAD 1.1 or 2.0 JSON")
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--checkpoint", type=Path, metavar="DIR", help="a transformers checkpoint")
    source.add_argument("--bundle", type=Path, metavar="DIR", help="a bundle, run by onnxruntime in this process")
    source.add_argument("--url", help="a running server, such as http://localhost:8000")
    return parser.parse_args(argv)


def evaluate(arguments: argparse.Namespace) -> Metrics:
    """Raises: DataError, BundleError, InputTooLongError, OSError."""
    examples = read_dev(arguments.dev)
    if arguments.url:
        metrics = score_answers(answer_over_http(arguments.url.rstrip("/")), tqdm(examples, unit="question"))
        metrics.pop("best_threshold", None)  # a server's probabilities do not tell the threshold in force
        return metrics
    run, task = load_bundle_run(arguments.bundle) if arguments.bundle else load_checkpoint(arguments.checkpoint)
    return evaluate_qa(run, task, tqdm(examples, unit="question"))


def main(argv: Sequence[str] | None = None) -> int:
    arguments = parse_arguments(argv)
    try:
        metrics = evaluate(arguments)
    except (DataError, BundleError, InputTooLongError, OSError) as error:
        reason = str(error).partition("\n")[0]  # libraries follow their first line with advice
        sys.stderr.write(f"python -m models.evaluate: {reason}\n")
        return 2
    sys.stdout.write(json.dumps({name: round(value, 3) for name, value in metrics.items()}, indent=2) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
