"""Chooses when a question-answering checkpoint abstains, on sets of short and of long contexts."""

import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from models.devset import DevOptions
from models.finetune.qa import QADev, QARecipe, null_lead
from models.predict import load_bundle_run, load_checkpoint
from models.tasks.answer_metrics import f1
from models.tasks.base import Run, answerer
from models.tasks.directory.thresholds import (
    POINTS_HELP,
    THRESHOLD,
    Thresholds,
    chosen_thresholds,
    with_thresholds,
    write_thresholds,
)
from models.tasks.errors import UsageError, run_command
from models.tasks.options import Flag, Options, read_options
from models.tasks.qa import QuestionAnswering, threshold_of

RIGHT = 0.6  # F1 of a best span that is right enough to be withheld wrongly


@dataclass(frozen=True, slots=True)
class Leads:
    """By how many logits the null leads each question's best span, before any threshold; that span's F1; and the tokens
    of its context.
    """

    leads: NDArray[np.float64]
    f1s: NDArray[np.float64]
    impossible: NDArray[np.bool_]
    tokens: NDArray[np.int64]

    @property
    def right(self) -> NDArray[np.bool_]:
        """Which questions have an answer that would be right."""
        return ~self.impossible & (self.f1s > RIGHT)

    def figures(self, thresholds: Thresholds) -> dict[str, float]:
        """Compute F1 over all questions, and the shares of right answers that are given and of others refused."""
        refused = self.leads > [threshold_of(thresholds, count) for count in self.tokens.tolist()]
        f1_all = np.where(refused, self.impossible, np.where(self.impossible, 0.0, self.f1s)).mean()
        figures = {"n": float(len(self.leads)), "f1_all": 100 * float(f1_all)}
        if self.right.any():
            figures["answered"] = 100 * float((~refused[self.right]).mean())
        if self.impossible.any():
            figures["refused"] = 100 * float(refused[self.impossible].mean())
        return figures


def ask(task: QuestionAnswering, run: Run, dev: QADev) -> Leads:
    """Ask a model whose threshold is 0 for every context."""
    answer = answerer(task, run)
    results = [answer(item) for item in tqdm(dev.inputs, desc="dev", unit="input")]
    texts = [result.answers[0].text if result.answers else "" for result in results]
    return Leads(
        np.array([null_lead(result) for result in results]),
        np.array([f1(text, example.answers) for text, example in zip(texts, dev.examples, strict=True)]),
        np.array([example.is_impossible for example in dev.examples]),
        np.array([len(task.encode(item).places) for item in dev.inputs]),
    )


def choose(sets: Sequence[Leads], share: float) -> float:
    """Find the lowest threshold that lets this share of the right answers of every set through."""
    return max(float(np.quantile(leads.leads[leads.right], share)) for leads in sets if leads.right.any())


@dataclass(frozen=True, slots=True, kw_only=True)
class CalibrateOptions(Options):
    """Choose when a checkpoint abstains and write it into its config.json, or measure a bundle and write nothing.

    Of --answered, --threshold and --by-tokens one is given; a bundle may be measured as it is.
    """

    checkpoint: Annotated[Path | None, Flag("a transformers checkpoint for question answering", metavar="DIR")] = None
    bundle: Annotated[Path | None, Flag("a bundle, or a directory with an ONNX file", metavar="DIR")] = None
    dev: Annotated[
        tuple[Path, ...], Flag("SQuAD JSON; models.finetune.abstaining.lengths makes long ones", metavar="FILE")
    ]
    answered: Annotated[
        float | None, Flag("share of the right answers of every file that must be given, such as 0.9", above=0)
    ] = None
    threshold: Annotated[float | None, Flag("logits by which the null must lead the best span")] = None
    by_tokens: Annotated[tuple[str, ...], Flag(POINTS_HELP, metavar="POINT")] = ()

    @property
    def thresholds(self) -> Thresholds | None:
        """What the flags say themselves. Raises: UsageError."""
        return chosen_thresholds(self.threshold, self.by_tokens)

    def check(self) -> None:
        """Raises: UsageError."""
        if (self.checkpoint is None) == (self.bundle is None):
            raise UsageError("give exactly one of --checkpoint and --bundle")
        if self.answered is not None and self.answered > 1:
            raise UsageError("--answered must be at most 1")
        if self.answered is not None and self.thresholds:
            raise UsageError("give --answered, or the threshold itself, not both")
        if self.checkpoint and self.answered is None and self.thresholds is None:
            raise UsageError("give one of --answered, --threshold and --by-tokens, which is written")


def main(argv: Sequence[str] | None = None, *, prog: str = "python -m models.finetune.abstaining.calibrate") -> int:
    return run_command(prog, run, prog, argv)


def run(prog: str, argv: Sequence[str] | None) -> None:
    """Settle the threshold and print what it does to every file.

    Raises: DataError, BundleError, OSError.
    """
    options = read_options(CalibrateOptions, prog, argv)
    name = QARecipe.spec.name
    if options.bundle:
        forward, task = load_bundle_run(options.bundle, name)
    else:
        assert options.checkpoint, "checked when the options were made"
        forward, task = load_checkpoint(options.checkpoint, name, QARecipe.model_class)
    assert isinstance(task, QuestionAnswering)
    thresholds = options.thresholds or task.thresholds
    task.thresholds = 0.0, ()
    sets = {path.name: ask(task, forward, QADev(path, DevOptions())) for path in options.dev}
    if options.answered is not None:
        thresholds = choose(list(sets.values()), options.answered), ()
    if thresholds[0] is None:
        raise UsageError(f"{options.bundle} has no {THRESHOLD}; give --answered, --threshold or --by-tokens")
    if options.checkpoint:
        write_thresholds(options.checkpoint, thresholds)
    figures = {
        name: {key: round(value, 2) for key, value in leads.figures(thresholds).items()} for name, leads in sets.items()
    }
    sys.stdout.write(json.dumps(with_thresholds({}, thresholds) | figures, indent=2) + "\n")


if __name__ == "__main__":
    sys.exit(main())
