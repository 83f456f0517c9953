"""Settles by how much "no answer" must lead, in the bundle's own configuration."""

from collections.abc import Callable
from pathlib import Path

from export.checkpoint import ExportError
from export.options import ExportOptions
from models.devset import DevSet, measure
from models.files import Reading
from models.squad import read_squad
from models.tasks.base import AnyTask, Run, answerer
from models.tasks.build import SPECS, build_task
from models.tasks.directory.model import read_directory
from models.tasks.directory.overrides import read_overrides
from models.tasks.directory.thresholds import THRESHOLD, write_thresholds
from models.tasks.qa import QuestionAnswering


def settle_threshold(
    stage: Path, origin: Path, options: ExportOptions, measure_best: Callable[[AnyTask], float | None]
) -> None:
    """Write the threshold into the stage's config.json: by flags, by the dev set, or by the origin's halfdepth.json.

    `measure_best`: a task whose threshold is 0 to the threshold that is best for it, None if nothing tells.

    Raises: ExportError, BundleError.
    """
    thresholds = (0.0, ()) if options.calibrate_no_answer else options.thresholds or read_overrides(origin).thresholds
    if thresholds is None:
        return
    write_thresholds(stage, thresholds)
    task = build_task(read_directory(stage, options.task), SPECS[options.task].graph_outputs)
    if not isinstance(task, QuestionAnswering):
        raise ExportError(
            f"a model for {options.task} has no {THRESHOLD}; remove it from the command or from halfdepth.json"
        )
    if options.calibrate_no_answer:
        best = measure_best(task)
        if best is None:
            raise uncalibrated(options)
        write_thresholds(stage, (best, ()))


def check_calibration(options: ExportOptions) -> None:
    """Refuse a dev set that cannot tell which threshold is best. Raises: DataError, ExportError."""
    reading = Reading(quoting=options.quoting, skip_bad=options.skip_bad)
    if options.calibrate_no_answer and all(example.answers for example in read_squad(options.dev, reading)):
        raise uncalibrated(options)


def uncalibrated(options: ExportOptions) -> ExportError:
    return ExportError(f"{options.dev} has no question without an answer, which --calibrate-no-answer needs")


def measured_threshold(task: AnyTask, run: Run, dev: DevSet) -> float | None:
    """Find the threshold with the best F1 over all questions; None if every one has an answer."""
    return measure(answerer(task, run), dev, task, name="threshold").get("best_threshold")
