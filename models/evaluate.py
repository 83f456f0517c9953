"""Runs `halfdepth evaluate`: a checkpoint, a bundle or a running server on a labelled set."""

import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated

from models.tasks.base import Metrics, TaskName, answerer
from models.tasks.build import SPECS
from models.tasks.directory.files import CONFIG, read_optional_json
from models.tasks.errors import UsageError, needs_extra, run_command
from models.tasks.options import Flag, Options, read_options, refuse_idle
from models.tasks.remote.client import KEY_HELP, Client
from models.tasks.text.windows import OnOverflow

with needs_extra("halfdepth evaluate", "train"):
    from models.devset import AnswerLanguage, DevOptions, measure
    from models.files import Quoting, Reading, SkipBad
    from models.finetune.recipes import RECIPES
    from models.predict import load_bundle_run, load_checkpoint


@dataclass(frozen=True, slots=True, kw_only=True)
class EvaluateOptions(Options):
    """Measure a checkpoint, a bundle or a running server on a labelled set: give one of the three."""

    task: Annotated[TaskName, Flag("what the model does", choices=SPECS)]
    dev: Annotated[
        Path,
        Flag("labelled set: SQuAD JSON; CoNLL or JSON lines for entities; else TSV with a header", metavar="FILE"),
    ]
    on_overflow: Annotated[OnOverflow, Flag("how to treat texts to classify that are too long")] = "truncate"
    multi_label: Annotated[bool, Flag("with --url: texts have several labels, separated by |, or none")] = False
    quoting: Quoting = True
    skip_bad: SkipBad = False
    language: AnswerLanguage = "en"
    checkpoint: Annotated[Path | None, Flag("a transformers checkpoint", metavar="DIR")] = None
    bundle: Annotated[Path | None, Flag("a bundle, run in this process with exact products", metavar="DIR")] = None
    url: Annotated[str | None, Flag("a running server, such as http://localhost:8000")] = None
    api_key: Annotated[str | None, Flag(f"of --url: {KEY_HELP}", metavar="KEY")] = None

    def check(self) -> None:
        """Raises: UsageError."""
        if sum(source is not None for source in (self.checkpoint, self.bundle, self.url)) != 1:
            raise UsageError("give exactly one of --checkpoint, --bundle and --url")
        if self.url is None:
            refuse_idle(self, ("multi_label",), "without --url: problem_type in config.json tells")
            refuse_idle(self, ("api_key",), "without --url")


def evaluate(options: EvaluateOptions) -> Metrics:
    """Return the metrics of whatever the options name.

    Raises: DataError, BundleError, InputTooLongError, ModelError, ClientError, UsageError, OSError.
    """
    recipe = RECIPES[options.task]
    reading = Reading(quoting=options.quoting, skip_bad=options.skip_bad)
    directory = options.bundle or options.checkpoint
    config = read_optional_json(directory / CONFIG) if directory else {}
    multi_label = options.multi_label and directory is None
    dev_options = DevOptions(options.on_overflow, multi_label, options.language, config, reading)
    dev = recipe.dev_set(options.dev, dev_options)
    if options.url is not None:
        answer = partial(recipe.ask, Client.of(options.url, options.api_key).post)
        dev.check(None, answer)
        return measure(answer, dev)
    if options.bundle is not None:
        graph, task = load_bundle_run(options.bundle, options.task)
    else:
        assert options.checkpoint is not None, "checked when the options were made"
        graph, task = load_checkpoint(options.checkpoint, options.task, recipe.model_class, has_head=recipe.has_head)
    dev.check(task)
    return measure(answerer(task, graph), dev, task)


def main(argv: Sequence[str] | None = None, *, prog: str = "python -m models.evaluate") -> int:
    return run_command(prog, run, prog, argv)


def run(prog: str, argv: Sequence[str] | None) -> None:
    """Print the metrics as JSON."""
    options = read_options(EvaluateOptions, prog, argv)
    language = {} if options.language == "en" else {"language": options.language}
    figures = {name: round(value, 3) for name, value in evaluate(options).items()}
    sys.stdout.write(json.dumps(language | figures, indent=2) + "\n")


if __name__ == "__main__":
    sys.exit(main())
