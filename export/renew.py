"""Measures the graph of a finished bundle anew, and writes its figures into manifest and card."""

import json
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from models.tasks.errors import UsageError, needs_extra, run_command
from models.tasks.options import Flag, Options, read_options

with needs_extra("python -m export.renew", "export"):
    from export.card import model_card
    from export.checkpoint import ExportError
    from export.source import rounded
    from export.staging import file_records
    from models.devset import AnswerLanguage, DevOptions, measure
    from models.files import Quoting, Reading, SkipBad
    from models.finetune.recipes import RECIPES
    from models.predict import load_bundle_run
    from models.tasks.base import answerer
    from models.tasks.bundle import MANIFEST, load_bundle, sha256_of
    from models.tasks.directory.files import CONFIG, read_optional_json
    from models.tasks.directory.overrides import OVERRIDES
    from models.tasks.directory.thresholds import (
        POINTS_HELP,
        THRESHOLD,
        Thresholds,
        chosen_thresholds,
        write_thresholds,
    )
    from models.tasks.manifest import Manifest
    from models.tasks.qa import SPEC, QuestionAnswering
    from models.tasks.text.windows import OnOverflow

CARD = "README.md"


@dataclass(frozen=True, slots=True, kw_only=True)
class RenewOptions(Options):
    """Write manifest and card of a bundle anew, as the export of today would; its graph and its records stay.

    Figures of the graph that is served are measured with --dev; those of other models stay as they are. With a new
    threshold for "no answer" the bundle's revision is another.
    """

    bundle: Annotated[Path, Flag("a bundle that halfdepth export wrote", metavar="DIR")]
    dev: Annotated[
        Path | None,
        Flag(
            "the file that the manifest's figures are of (default: leave the figures, write the card)", metavar="FILE"
        ),
    ] = None
    no_answer_threshold: Annotated[float | None, Flag("logits by which the null must lead", metavar="LOGITS")] = None
    no_answer_by_tokens: Annotated[tuple[str, ...], Flag(POINTS_HELP, metavar="POINT")] = ()
    on_overflow: Annotated[OnOverflow, Flag("how to treat texts to classify that are too long")] = "truncate"
    quoting: Quoting = True
    skip_bad: SkipBad = False
    language: AnswerLanguage = "en"

    @property
    def thresholds(self) -> Thresholds | None:
        """What the flags say of "no answer". Raises: UsageError."""
        return chosen_thresholds(self.no_answer_threshold, self.no_answer_by_tokens)

    def check(self) -> None:
        """Raises: UsageError."""
        if self.thresholds and not self.dev:
            raise UsageError("give --dev too: with another threshold the bundle has other figures")


def renew(options: RenewOptions) -> Manifest:
    """Returns: the manifest as it was written. Raises: ExportError, DataError, BundleError, OSError."""
    path = options.bundle
    bundle = load_bundle(path)  # all files as the manifest lists them
    manifest = bundle.manifest
    if manifest is None:
        raise ExportError(f"{path} has no {MANIFEST}; only a bundle that halfdepth export wrote can be renewed")
    if (path / OVERRIDES).exists():
        raise ExportError(f"{path / OVERRIDES} changes what is measured; move it away, and put it back afterwards")
    if options.dev:
        check_dev(manifest, options.dev)
    graph, task = load_bundle_run(path, manifest.task)
    if options.thresholds:
        if not isinstance(task, QuestionAnswering):
            raise ExportError(f"a model for {manifest.task} has no {THRESHOLD}; remove it from the command")
        task.thresholds = options.thresholds
    if options.dev:
        reading = Reading(quoting=options.quoting, skip_bad=options.skip_bad)
        config = read_optional_json(path / CONFIG)
        dev_options = DevOptions(options.on_overflow, language=options.language, config=config, reading=reading)
        dev = RECIPES[manifest.task].dev_set(options.dev, dev_options)
        dev.check(task)
        served = "student_int8" if bundle.precision == "int8" else "student_fp32"
        answer = answerer(task, graph)
        figures = rounded(measure(answer, dev, task))
        manifest = manifest.model_copy(update={"metrics": manifest.metrics.model_copy(update={served: figures})})
        if options.thresholds:  # golden answers have scores, which are beside the null's
            golden = tuple(SPEC.record(item, answer(item)) for item in SPEC.golden_inputs)
            manifest = manifest.model_copy(update={"golden": golden})
    if options.thresholds:
        write_thresholds(path, options.thresholds)
    card = model_card(manifest, task, stage=path, directory=str(path))
    write_whole(path / CARD, card)
    manifest = manifest.model_copy(update={"files": file_records(path)})
    write_whole(path / MANIFEST, manifest.model_dump_json(indent=2) + "\n")
    return manifest


def check_dev(manifest: Manifest, dev: Path) -> None:
    """Refuse another file than the one that the other figures are of. Raises: ExportError, OSError."""
    checksums = [record.sha256 for record in manifest.data if record.used_for == "dev"]
    if checksums != [sha256_of(dev)]:
        raise ExportError(
            f"{dev} is not the {manifest.metrics.data} that the manifest's figures are of; give that file"
        )


def write_whole(path: Path, text: str) -> None:
    """Replace a file by one that is complete."""
    unfinished = path.with_name(f".{path.name}")
    unfinished.write_text(text, encoding="utf-8")
    os.replace(unfinished, path)


def main(argv: Sequence[str] | None = None, *, prog: str = "python -m export.renew") -> int:
    return run_command(prog, run, prog, argv)


def run(prog: str, argv: Sequence[str] | None) -> None:
    """Print the figures that the manifest has now of the graph that is served."""
    manifest = renew(read_options(RenewOptions, prog, argv))
    figures = manifest.metrics.student_int8 or manifest.metrics.student_fp32
    sys.stdout.write(json.dumps(figures, indent=2) + "\n")


if __name__ == "__main__":
    sys.exit(main())
