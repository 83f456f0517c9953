"""Knows all tasks, and builds the one that a model is for, as its files and its graph say."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, Field

from models.tasks.base import AnySpec, AnyTask, TaskName
from models.tasks.classification import SPEC as CLASSIFICATION
from models.tasks.directory.files import CONFIG, BundleError
from models.tasks.directory.graph import Shape, output_shapes
from models.tasks.directory.model import ModelDirectory, architectures
from models.tasks.directory.overrides import OVERRIDES
from models.tasks.entities import SPEC as ENTITIES
from models.tasks.qa import SPEC as QUESTION_ANSWERING
from models.tasks.rerank import SPEC as RERANKING
from models.tasks.similarity import SPEC as SIMILARITY

SPECS: dict[TaskName, AnySpec] = {
    spec.name: spec for spec in (QUESTION_ANSWERING, RERANKING, CLASSIFICATION, SIMILARITY, ENTITIES)
}


def build_task(directory: ModelDirectory, graph_outputs: Sequence[str], *, max_windows: int | None = None) -> AnyTask:
    """Build the task of a bundle or a checkpoint. `graph_outputs`: what its graph gives. Raises: BundleError."""
    file, overrides, task = directory.path / OVERRIDES, directory.overrides, directory.task
    if overrides.task not in (None, task):
        raise BundleError(f"{file} says that the task is {overrides.task} and not {task}; use a different --task")
    for key in {key for spec in SPECS.values() for key in spec.override_keys} - set(SPECS[task].override_keys):
        if getattr(overrides, key) is not None:
            raise BundleError(f"{file}: {key} means nothing for the task {task}; remove it")
    return SPECS[task].build(directory, graph_outputs, max_windows)


def task_of_graph(
    graph: Path,
    directory: Path,
    config: dict[str, Any],
    named: TaskName | None = None,
    *,
    renames: bool = False,
) -> TaskName:
    """Find the task of an ONNX file among a model's files, which must say the same. `config`: its config.json.

    `named`: the task that an operator names; it counts for more than the files, but the graph must be one for it. With
    `renames`, a graph whose outputs have the names of no task may be one for it too.

    Raises: BundleError.
    """
    outputs = output_shapes(graph)
    if not outputs:  # onnxruntime will say what is wrong with the file
        return named or task_of_files(directory, config)
    tasks = [named] if named else _tasks_of_files(directory, config)
    able = [spec.name for spec in SPECS.values() if _gives(outputs, spec)]
    if renames and named and not able:
        return named
    found = [name for name in tasks or able if name in able and (tasks or SPECS[name].accepts(config))]
    if len(found) == 1:
        return found[0]
    finding = f"{graph} gives {_listed(outputs)}"
    if found:
        raise BundleError(f"{finding}, which {' and '.join(found)} read; name the task in {OVERRIDES}")
    wanted = ", ".join(f"{name} reads {_read_by(SPECS[name])}" for name in tasks or SPECS)
    if named:
        raise BundleError(f"{finding}, but {wanted}; name another task, or export the graph for this one")
    if tasks:
        raise BundleError(
            f"{finding}, but by its files the model is for {tasks[0]}, and {wanted}; export the graph again"
        )
    raise BundleError(f"{finding}, which is for no task here: {wanted}; export the graph for one of them")


def task_of_files(directory: Path, config: dict[str, Any]) -> TaskName:  # config: its config.json
    """Find the task of a model by its files alone. Raises: BundleError."""
    tasks = _tasks_of_files(directory, config)
    if len(tasks) == 1:
        return tasks[0]
    endings = [ending for spec in SPECS.values() for ending in spec.architectures]
    raise BundleError(
        f"{directory / CONFIG}: architectures {architectures(config)} belong to no task here; supported are names "
        f"that end in {', '.join(endings)}"
    )


def _tasks_of_files(directory: Path, config: dict[str, Any]) -> list[TaskName]:  # as above
    """List the tasks by what lies beside the model, or else by its architecture."""
    by_files = [spec.name for spec in SPECS.values() if any((directory / file).exists() for file in spec.files)]
    names = architectures(config)
    return by_files or [
        spec.name
        for spec in SPECS.values()
        if any(name.endswith(spec.architectures) for name in names) and spec.accepts(config)
    ]


def _gives(outputs: Mapping[str, Shape | None], spec: AnySpec) -> bool:
    """Tell whether a graph with these outputs is one for the task, as far as the file says their axes."""

    def has(name: str, axes: int) -> bool:
        shape = outputs.get(name)
        return name in outputs and (shape is None or len(shape) == axes)

    return any(all(has(name, axes) for name, axes in signature.items()) for signature in spec.signatures)


def _listed(outputs: Mapping[str, Shape | None]) -> str:
    return " and ".join(name if shape is None else _with_axes(name, len(shape)) for name, shape in outputs.items())


def _read_by(spec: AnySpec) -> str:
    return " or ".join(
        " and ".join(_with_axes(name, axes) for name, axes in signature.items()) for signature in spec.signatures
    )


def _with_axes(name: str, axes: int) -> str:
    return f"{name} with {axes} axes"


def _check_known(name: TaskName) -> TaskName:
    if name not in SPECS:
        raise ValueError(f"{name!r} is not a task; the tasks are {', '.join(SPECS)}")
    return name


KnownTask = Annotated[TaskName, AfterValidator(_check_known), Field(json_schema_extra={"enum": list(SPECS)})]
"""The name of a task in a pydantic model; its schema lists the names."""
