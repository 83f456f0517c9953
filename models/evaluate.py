"""Measures a checkpoint, a bundle or a running server on a labelled set, each in the same way."""

import argparse
import json
import sys
import urllib.request
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any, get_args

from models.data import DataError
from models.devset import DevOptions, measure
from models.finetune.recipe import Post
from models.finetune.recipes import RECIPES
from models.predict import load_bundle_run, load_checkpoint
from models.tasks.base import InputTooLongError, Metrics, answerer
from models.tasks.build import SPECS
from models.tasks.directory import BundleError
from models.tasks.texts import OnOverflow


def poster(url: str) -> Post:
    """Make the function that asks the server at `url`; it raises OSError."""

    def post(route: str, fields: dict[str, object]) -> Any:  # JSON
        request = urllib.request.Request(url + route, json.dumps(fields).encode(), {"content-type": "application/json"})
        with urllib.request.urlopen(request) as response:
            return json.load(response)

    return post


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
    """Measure what the arguments name. Raises: DataError, BundleError, InputTooLongError, OSError."""
    recipe = RECIPES[arguments.task]
    dev = recipe.dev_set(arguments.dev, DevOptions(arguments.on_overflow, arguments.multi_label))
    if arguments.url:
        return measure(partial(recipe.ask, poster(arguments.url.rstrip("/"))), dev)
    run, task = (
        load_bundle_run(arguments.bundle, arguments.task)
        if arguments.bundle
        else load_checkpoint(arguments.checkpoint, arguments.task, recipe.model_class)
    )
    return measure(answerer(task, run), dev, task)


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
