"""Settles by how much "no answer" must lead, in the bundle's own configuration."""

import json
from collections.abc import Callable
from pathlib import Path

from export.checkpoint import ExportError
from export.options import ExportOptions
from models.devset import DevSet, measure
from models.tasks.base import AnyTask, Run, answerer
from models.tasks.build import SPECS, build_task
from models.tasks.directory.files import CONFIG, read_json
from models.tasks.directory.model import read_directory
from models.tasks.directory.overrides import read_overrides

KEY = "no_answer_threshold"  # of config.json and of halfdepth.json, and an attribute of the task


def settle_threshold(
    stage: Path, origin: Path, options: ExportOptions, measure_best: Callable[[AnyTask], float | None]
) -> None:
    """Write the threshold into the stage's config.json: by its flag, by the dev set, or by the origin's halfdepth.json.

    `measure_best`: a task whose threshold is 0 to the threshold that is best for it, None if nothing tells.

    Raises: ExportError, BundleError.
    """
    threshold = options.no_answer_threshold
    if threshold is None:
        threshold = read_overrides(origin).no_answer_threshold
    if options.calibrate_no_answer:
        threshold = 0.0
    if threshold is None:
        return
    task = _with_threshold(stage, options, threshold)
    if getattr(task, KEY, None) is None:
        raise ExportError(f"a model for {options.task} has no {KEY}; remove it from the command or from halfdepth.json")
    if options.calibrate_no_answer:
        best = measure_best(task)
        if best is None:
            raise ExportError(f"{options.dev} has no question without an answer, which --calibrate-no-answer needs")
        _with_threshold(stage, options, best)


def measured_threshold(task: AnyTask, run: Run, dev: DevSet) -> float | None:
    """Find the threshold with the best F1 over all questions; None if every one has an answer."""
    return measure(answerer(task, run), dev, task, name="threshold").get("best_threshold")


def _with_threshold(stage: Path, options: ExportOptions, threshold: float) -> AnyTask:
    config = read_json(stage / CONFIG) | {KEY: threshold}
    (stage / CONFIG).write_text(json.dumps(config, indent=2, sort_keys=True) + "\n", encoding="utf-8")
    return build_task(read_directory(stage, options.task), SPECS[options.task].graph_outputs)
