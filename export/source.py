"""What an export begins with: a checkpoint, or a directory with ONNX in it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from export.card import PUBLIC_DATA
from export.checkpoint import Checkpoint, load_checkpoint
from export.convert import convert
from export.sentence import write_sentence_configs
from models.data import describe
from models.devset import DevSet, measure
from models.predict import answers, checkpoint_task, torch_run
from models.tasks.base import TaskName
from models.tasks.bundle import FP32_MODEL
from models.tasks.manifest import DataRecord, ModelRecord, Quantization
from models.tasks.session import Run

Figures = dict[str, float]


@dataclass(frozen=True, slots=True)
class Source:
    """Its files lie in the stage by now: configuration, tokenizer and a graph, fp32 or, if that is all there is, int8.

    `reference` is the run that the fp32 graph must agree with, on the outputs `compared`. The figures are what is
    known of the models: `fp32_figures` and `quantization` only where the graph that came was int8; `rewrites` are
    those that it has been through already.
    """

    name: str
    student: ModelRecord
    teacher: ModelRecord | None
    data: tuple[DataRecord, ...]
    reference: Run
    compared: Sequence[str]
    teacher_figures: Callable[[DevSet], Figures | None]
    fp32_figures: Figures | None = None
    quantization: Quantization | None = None
    rewrites: tuple[str, ...] = ()


def checkpoint_source(stage: Path, task: TaskName, student: Path, teacher: Path | None) -> Source:
    """Convert a checkpoint into the stage; its teacher's, if given, is measured. Raises: ExportError, BundleError."""
    own = load_checkpoint(student, task)
    of_teacher = load_checkpoint(teacher, task) if teacher else None
    convert(own.model, task, stage / FP32_MODEL)
    own.model.config.save_pretrained(stage)
    own.tokenizer.save_pretrained(stage, legacy_format=False)  # tokenizer.json alone, no second vocabulary
    if task == "similarity":
        write_sentence_configs(stage, checkpoint_task(student, task).max_length, own.model.config.hidden_size)
    compared = checkpoint_task(student, task).output_names
    return Source(
        name=own.name,
        student=own.record(),
        teacher=of_teacher.record() if of_teacher else None,
        data=_training_data([checkpoint for checkpoint in (of_teacher, own) if checkpoint]),
        reference=torch_run(own.model, compared),
        compared=compared,
        teacher_figures=lambda dev: _measure_teacher(of_teacher, dev) if of_teacher else None,
    )


def rounded(figures: Figures) -> Figures:
    return {key: round(value, 3) for key, value in figures.items()}


def dev_record(path: Path) -> DataRecord:
    source, licence = PUBLIC_DATA.get(path.name, (None, None))
    return DataRecord(**describe(path), used_for="dev", source=source, licence=licence)


def _measure_teacher(teacher: Checkpoint, dev: DevSet) -> Figures:
    task = checkpoint_task(teacher.path, teacher.task)
    return rounded(measure(answers(torch_run(teacher.model, task.output_names), task), dev, task, name="teacher"))


def _training_data(checkpoints: Sequence[Checkpoint]) -> tuple[DataRecord, ...]:
    """Every file that trained any of the checkpoints, once."""
    used = {}
    for checkpoint in checkpoints:
        for data in checkpoint.training.data if checkpoint.training else ():
            source, licence = PUBLIC_DATA.get(data.name, (None, None))
            used[data.sha256] = DataRecord(
                name=data.name,
                sha256=data.sha256,
                bytes=data.bytes,
                used_for="train",
                source=source,
                licence=data.licence or licence,
            )
    return tuple(used.values())
