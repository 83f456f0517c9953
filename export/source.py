"""What an export begins with: a checkpoint, or a directory with ONNX in it."""

import math
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import onnx

from export.card import PUBLIC_DATA
from export.checkpoint import Checkpoint, ExportError, load_checkpoint
from export.graph.convert import convert
from export.graph.pooling import add_pooling
from models.data import describe
from models.devset import DevSet, measure
from models.finetune.recipes import RECIPES
from models.predict import checkpoint_task, torch_run
from models.tasks.base import Run, TaskName, answerer
from models.tasks.build import SPECS, build_task
from models.tasks.bundle import FP32_MODEL, INT8_MODEL, Bundle, load_bundle, sha256_of
from models.tasks.directory import CONFIG, TOKENIZER
from models.tasks.manifest import DataRecord, ModelRecord, Quantization
from models.tasks.session import load_graph, onnx_run
from models.tasks.similarity import MODULES, POOLED, POOLING_CONFIG, SENTENCE_CONFIG, STATES

BESIDE = (
    CONFIG,
    TOKENIZER,
    "tokenizer_config.json",
    "special_tokens_map.json",
    MODULES,
    SENTENCE_CONFIG,
    POOLING_CONFIG,
)
LAYERS = ("num_hidden_layers", "n_layers")  # the second is DistilBERT's
HIDDEN = ("hidden_size", "dim")

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
    kernel = checkpoint_task(student, task)
    RECIPES[task].write_files(stage, kernel, own.model.config.hidden_size)
    compared = kernel.output_names
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
    return rounded(measure(answerer(task, torch_run(teacher.model, task.output_names)), dev, task, name="teacher"))


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


def onnx_source(stage: Path, task: TaskName, directory: Path) -> Source:
    """Copy a directory with ONNX in it into the stage. Its fp32 graph is taken before its int8 graph.

    With a manifest, what it says of the models and their figures is carried over. Raises: ExportError, BundleError.
    """
    bundle = load_bundle(directory)
    if bundle.task != task:
        raise ExportError(f"{directory} is for the task {bundle.task} and not for {task}; give another --task")
    for name in BESIDE:
        if (directory / name).is_file():
            (stage / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(directory / name, stage / name)
    graph = next((path for file in (FP32_MODEL, "model.onnx") if (path := directory / file).is_file()), None)
    if graph is None and (bundle.manifest is None or bundle.manifest.metrics.student_int8 is None):
        raise ExportError(
            f"{directory} has an int8 graph alone and no manifest that vouches for it; add its {FP32_MODEL}"
        )
    precision = "int8" if graph is None else "fp32"
    graph = graph or bundle.model_path
    written = stage / (INT8_MODEL if precision == "int8" else FP32_MODEL)
    written.parent.mkdir(parents=True, exist_ok=True)
    onnx.save(onnx.load(graph), written)  # with weights that lay in a file beside it
    if POOLED in SPECS[task].graph_outputs:
        _pool(bundle, written, stage)
    manifest, given = bundle.manifest, load_graph(written)
    compared = build_task(bundle, [output.name for output in given.get_outputs()]).output_names
    reference = onnx_run(given, compared)

    def teacher_figures(_: DevSet) -> Figures | None:
        return manifest.metrics.teacher if manifest else None

    if manifest is None:
        return Source(bundle.name, _record(bundle, written), None, (), reference, compared, teacher_figures)
    return Source(
        name=manifest.name,
        student=manifest.student,
        teacher=manifest.teacher,
        data=tuple(record for record in manifest.data if record.used_for == "train"),
        reference=reference,
        compared=compared,
        teacher_figures=teacher_figures,
        fp32_figures=manifest.metrics.student_fp32 if precision == "int8" else None,
        quantization=manifest.quantization if precision == "int8" else None,
        rewrites=manifest.graph.rewrites if manifest.graph else (),
    )


def _pool(bundle: Bundle, graph: Path, stage: Path) -> None:
    """A graph that gives states alone gets the pooled embedding too."""
    outputs = [output.name for output in onnx.load(graph, load_external_data=False).graph.output]
    task = build_task(bundle, outputs)
    if POOLED not in outputs:
        if STATES not in outputs:
            raise ExportError(f"{bundle.model_path} has no output {STATES}, which its embeddings are the mean of")
        add_pooling(graph)
        RECIPES[bundle.task].write_files(stage, task, _number(bundle, HIDDEN))


def _record(bundle: Bundle, graph: Path) -> ModelRecord:
    weights = onnx.load(graph).graph.initializer
    parameters = sum(math.prod(tensor.dims) for tensor in weights if tensor.data_type == onnx.TensorProto.FLOAT)
    architectures = bundle.config.get("architectures") or ["unknown"]
    return ModelRecord(
        name=bundle.name,
        revision=sha256_of(graph)[:12],
        architecture=str(architectures[0]),
        parameters=parameters,
        layers=_number(bundle, LAYERS),
        hidden_size=_number(bundle, HIDDEN),
        bytes=graph.stat().st_size,
        training=None,
    )


def _number(bundle: Bundle, keys: Sequence[str]) -> int:
    value = next((bundle.config[key] for key in keys if key in bundle.config), None)
    if not isinstance(value, int):
        raise ExportError(f"{bundle.path / CONFIG} has no number {' or '.join(keys)}; add it")
    return value
