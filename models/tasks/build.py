"""Knows all tasks, and builds the one that a directory's model was made for, as its files describe it."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, Field

from models.tasks.base import AnySpec, AnyTask, TaskName
from models.tasks.classification import SPEC as CLASSIFICATION
from models.tasks.directory.files import BundleError
from models.tasks.directory.model import ModelDirectory
from models.tasks.qa import SPEC as QUESTION_ANSWERING
from models.tasks.similarity import SPEC as SIMILARITY

SPECS: dict[TaskName, AnySpec] = {spec.name: spec for spec in (QUESTION_ANSWERING, CLASSIFICATION, SIMILARITY)}


def build_task(directory: ModelDirectory, graph_outputs: Sequence[str], *, max_windows: int | None = None) -> AnyTask:
    """Build the task of a bundle or a checkpoint. `graph_outputs`: what its graph gives. Raises: BundleError."""
    return SPECS[directory.task].build(directory, graph_outputs, max_windows)


def task_of_config(path: Path, config: dict[str, Any]) -> TaskName:  # config: as read from `path`
    """Find the task of a model by its architecture. Raises: BundleError."""
    architectures = config.get("architectures")
    names = [str(name) for name in architectures] if isinstance(architectures, list) else []
    for spec in SPECS.values():
        if any(name.endswith(spec.architectures) for name in names):
            return spec.name
    endings = [ending for spec in SPECS.values() for ending in spec.architectures]
    raise BundleError(
        f"{path}: architectures {names} belong to no task here; supported are names that end in {', '.join(endings)}"
    )


def _check_known(name: TaskName) -> TaskName:
    if name not in SPECS:
        raise ValueError(f"{name!r} is not a task; the tasks are {', '.join(SPECS)}")
    return name


KnownTask = Annotated[TaskName, AfterValidator(_check_known), Field(json_schema_extra={"enum": list(SPECS)})]
"""The name of a task in a pydantic model; its schema lists the names."""
