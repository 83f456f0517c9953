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
from models.predict import load_checkpoint
from models.tasks.answer_metrics import f1
from models.tasks.base import answerer
from models.tasks.directory.files import CONFIG
from models.tasks.errors import UsageError, run_command
from models.tasks.options import Flag, Options, read_options
from models.tasks.qa import QuestionAnswering

RIGHT = 0.6  # F1 of a best span that is right enough to be withheld wrongly


@dataclass(frozen=True, slots=True)
class Leads:
    """By how many logits the null leads each question's best span, before any threshold; and that span's F1."""

    leads: NDArray[np.float64]
    f1s: NDArray[np.float64]
    impossible: NDArray[np.bool_]

    @property
    def right(self) -> NDArray[np.bool_]:
        """Which questions have an answer that would be right."""
        return ~self.impossible & (self.f1s > RIGHT)

    def figures(self, threshold: float) -> dict[str, float]:
        """Compute F1 over all questions, and the shares of right answers that are given and of others refused."""
        refused = self.leads > threshold
        f1_all = np.where(refused, self.impossible, np.where(self.impossible, 0.0, self.f1s)).mean()
        figures = {"n": float(len(self.leads)), "f1_all": 100 * float(f1_all)}
        if self.right.any():
            figures["answered"] = 100 * float((~refused[self.right]).mean())
        if self.impossible.any():
            figures["refused"] = 100 * float(refused[self.impossible].mean())
        return figures


def ask(directory: Path, dev: QADev) -> Leads:
    """Raises: OSError, BundleError."""
    run, task = load_checkpoint(directory, QARecipe.spec.name, QARecipe.model_class)
    assert isinstance(task, QuestionAnswering)
    task.no_answer_threshold = 0.0
    answer = answerer(task, run)
    results = [answer(item) for item in tqdm(dev.inputs, desc="dev", unit="input")]
    texts = [result.answers[0].text if result.answers else "" for result in results]
    return Leads(
        np.array([null_lead(result) for result in results]),
        np.array([f1(text, example.answers) for text, example in zip(texts, dev.examples, strict=True)]),
        np.array([example.is_impossible for example in dev.examples]),
    )


def choose(sets: Sequence[Leads], share: float) -> float:
    """Find the lowest threshold that lets this share of the right answers of every set through."""
    return max(float(np.quantile(leads.leads[leads.right], share)) for leads in sets if leads.right.any())


@dataclass(frozen=True, slots=True, kw_only=True)
class CalibrateOptions(Options):
    """Choose the no-answer threshold of a checkpoint and write it into its config.json: give one of the last two."""

    checkpoint: Annotated[Path, Flag("a transformers checkpoint for question answering", metavar="DIR")]
    dev: Annotated[
        tuple[Path, ...], Flag("SQuAD JSON; models.finetune.abstaining.lengths makes long ones", metavar="FILE")
    ]
    answered: Annotated[
        float | None, Flag("share of the right answers of every file that must be given, such as 0.9", above=0)
    ] = None
    threshold: Annotated[float | None, Flag("logits by which the null must lead the best span")] = None

    def check(self) -> None:
        """Raises: UsageError."""
        if (self.answered is None) == (self.threshold is None):
            raise UsageError("give exactly one of --answered and --threshold")
        if self.answered is not None and self.answered > 1:
            raise UsageError("--answered must be at most 1")


def main(argv: Sequence[str] | None = None, *, prog: str = "python -m models.finetune.abstaining.calibrate") -> int:
    return run_command(prog, run, prog, argv)


def run(prog: str, argv: Sequence[str] | None) -> None:
    """Write the threshold and print what it does to every file. Raises: DataError, BundleError, OSError."""
    options = read_options(CalibrateOptions, prog, argv)
    sets = {path.name: ask(options.checkpoint, QADev(path, DevOptions())) for path in options.dev}
    if options.threshold is not None:
        threshold = options.threshold
    else:
        assert options.answered is not None, "checked when the options were made"
        threshold = choose(list(sets.values()), options.answered)
    path = options.checkpoint / CONFIG
    config = json.loads(path.read_text(encoding="utf-8")) | {"no_answer_threshold": threshold}
    path.write_text(json.dumps(config, indent=2, sort_keys=True) + "\n", encoding="utf-8")
    figures = {
        name: {key: round(value, 2) for key, value in leads.figures(threshold).items()} for name, leads in sets.items()
    }
    sys.stdout.write(json.dumps({"no_answer_threshold": threshold} | figures, indent=2) + "\n")


if __name__ == "__main__":
    sys.exit(main())
