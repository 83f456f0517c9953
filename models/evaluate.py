"""Metrics of a checkpoint, a bundle or a running server on a labelled set: the same for all three."""

import argparse
import json
import sys
import urllib.request
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, get_args

import numpy as np

from models.data import DataError
from models.devset import measure, read_dev
from models.predict import load_bundle_run, load_checkpoint
from models.tasks.base import InputTooLongError, Metrics, TaskName, answerer
from models.tasks.build import SPECS
from models.tasks.classification import ClassificationInput, ClassificationResult, Label
from models.tasks.directory import BundleError
from models.tasks.qa import Answer, QAInput, QAResult
from models.tasks.similarity import EmbeddingInput
from models.tasks.texts import OnOverflow


def answers_over_http(url: str, task: TaskName) -> Callable[[Any], Any]:
    """A running server's results for the kernel's inputs. Raises, when called: OSError."""

    def post(route: str, **fields: object) -> Any:  # JSON
        request = urllib.request.Request(url + route, json.dumps(fields).encode(), {"content-type": "application/json"})
        with urllib.request.urlopen(request) as response:
            return json.load(response)

    def qa(item: QAInput) -> QAResult:
        reply = post("/qa", question=item.question, context=item.context)
        return QAResult(tuple(Answer(**answer) for answer in reply["answers"]), reply["no_answer_score"])

    def classify(item: ClassificationInput) -> ClassificationResult:
        pair = {} if item.text_pair is None else {"text_pair": item.text_pair}
        reply = post("/classify", text=item.text, top_k=item.top_k, on_overflow=item.on_overflow, **pair)
        return ClassificationResult(tuple(Label(**label) for label in reply["labels"]))

    def embed(item: EmbeddingInput) -> Any:
        return np.array(post("/embed", inputs=item.text)["embeddings"][0], dtype=np.float32)

    routes: dict[TaskName, Callable[[Any], Any]] = {"qa": qa, "classify": classify, "similarity": embed}
    return routes[task]


def parse_arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m models.evaluate", description=__doc__)
    parser.add_argument("--task", choices=tuple(SPECS), required=True)
    parser.add_argument(
        "--dev", type=Path, required=True, metavar="FILE", help="SQuAD JSON; for the other tasks TSV with a header"
    )
    parser.add_argument(
        "--on-overflow", choices=get_args(OnOverflow), default="truncate", help="of texts to classify that are too long"
    )
    parser.add_argument(
        "--multi-label", action="store_true", help="of --url: texts have several labels, with | between them"
    )
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--checkpoint", type=Path, metavar="DIR", help="a transformers checkpoint")
    source.add_argument("--bundle", type=Path, metavar="DIR", help="a bundle, run in this process with exact products")
    source.add_argument("--url", help="a running server, such as http://localhost:8000")
    return parser.parse_args(argv)


def evaluate(arguments: argparse.Namespace) -> Metrics:
    """Raises: DataError, BundleError, InputTooLongError, OSError."""
    name: TaskName = arguments.task
    if arguments.url:
        answer, task = answers_over_http(arguments.url.rstrip("/"), name), None
    else:
        run, task = (
            load_bundle_run(arguments.bundle, name) if arguments.bundle else load_checkpoint(arguments.checkpoint, name)
        )
        answer = answerer(task, run)
    multi_label = getattr(task, "multi_label", arguments.multi_label)
    dev = read_dev(name, arguments.dev, on_overflow=arguments.on_overflow, multi_label=multi_label)
    return measure(answer, dev, task)


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
