"""Reads what an export begins with into the stage: a checkpoint, or a directory with ONNX in it."""

import math
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import onnx

from export.card import PUBLIC_DATA
from export.checkpoint import ExportError, FinetunedModel, load_finetuned
from export.foreign import read_foreign, read_onnx
from export.graph.convert import convert
from export.graph.pooling import add_pooling
from models.devset import DevSet, measure
from models.finetune.recipes import RECIPES
from models.predict import checkpoint_task, read_weights, torch_run
from models.provenance import TrainingData, describe
from models.tasks.base import Features, Outputs, Run, TaskName, answerer
from models.tasks.build import SPECS, build_task
from models.tasks.bundle import FP32_MODEL, INT8_MODEL, Bundle, load_bundle, sha256_of
from models.tasks.directory.files import CONFIG, TOKENIZER, TOKENIZER_CONFIG
from models.tasks.directory.overrides import OVERRIDES
from models.tasks.directory.sentences import read_head
from models.tasks.directory.tokenizer import ADDED_TOKENS, SPECIAL_TOKENS_MAP
from models.tasks.manifest import DataRecord, ModelRecord, Quantization
from models.tasks.session import graph_outputs, onnx_run, open_graph
from models.tasks.similarity import (
    POOLED,
    STATES,
    SentenceEmbedding,
    known_head,
    write_sentence_files,
)

BESIDE = (CONFIG, TOKENIZER, TOKENIZER_CONFIG, SPECIAL_TOKENS_MAP, ADDED_TOKENS)
LAYERS = ("num_hidden_layers", "n_layers")  # the second is DistilBERT's
HIDDEN = ("hidden_size", "dim")

Figures = dict[str, float]


@dataclass(frozen=True, slots=True)
class Int8Origin:
    """What the manifest says of a graph that came only as int8."""

    fp32_figures: Figures
    quantization: Quantization | None


@dataclass(frozen=True, slots=True)
class Source:
    """What is known of the models. Their files lie in the stage by now: configuration, tokenizer and one graph.

    `reference` is the run that the fp32 graph must agree with, on the outputs `compared`; with `is_half`, to the few
    digits of 16 bits. `int8` is set where the graph is int8, because that was all there is; `rewrites` are those that
    it has been through already.
    """

    name: str
    student: ModelRecord
    teacher: ModelRecord | None
    data: tuple[DataRecord, ...]
    reference: Run
    compared: Sequence[str]
    teacher_figures: Callable[[DevSet], Figures | None]
    int8: Int8Origin | None = None
    is_half: bool = False
    rewrites: tuple[str, ...] = ()


def checkpoint_source(stage: Path, task: TaskName, student: Path, teacher: Path | None) -> Source:
    """Convert a checkpoint into the stage; its teacher's, if given, is measured.

    Raises: ExportError, BundleError, DataError.
    """
    student_model = load_finetuned(student, task)
    teacher_model = load_finetuned(teacher, task) if teacher else None
    kernel = checkpoint_task(student, task)
    run, compared = torch_run(student_model.model, kernel.output_names), tuple(kernel.output_names)
    if isinstance(kernel, SentenceEmbedding):
        convert(student_model.model, task, stage / FP32_MODEL, kernel.head)
        run, compared = with_embedding(run, kernel), (*compared, POOLED)
    else:
        convert(student_model.model, task, stage / FP32_MODEL)
    student_model.model.config.save_pretrained(stage)
    student_model.tokenizer.save_pretrained(stage, legacy_format=False)  # only tokenizer.json, no second vocabulary
    RECIPES[task].write_files(stage, kernel, student_model.model.config.hidden_size)
    return Source(
        name=student_model.name,
        student=student_model.record(),
        teacher=teacher_model.record() if teacher_model else None,
        data=_training_data([model for model in (teacher_model, student_model) if model]),
        reference=run,
        compared=compared,
        teacher_figures=lambda dev: _measure_teacher(teacher_model, dev) if teacher_model else None,
    )


def onnx_source(stage: Path, task: TaskName, directory: Path) -> Source:
    """Copy a directory with ONNX in it into the stage. Its fp32 graph is taken before its int8 graph.

    With a manifest, what it says of the models and their figures is carried over. Raises: ExportError, BundleError.
    """
    bundle = load_bundle(directory, task, renames=True)
    for name in BESIDE:
        if (directory / name).is_file():
            (stage / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(directory / name, stage / name)
    fp32 = next((path for file in (FP32_MODEL, "model.onnx") if (path := directory / file).is_file()), None)
    if bundle.overrides.file:
        fp32 = None  # the one that it names
    int8 = _int8_origin(bundle) if fp32 is None and bundle.precision == "int8" else None
    graph = stage / (INT8_MODEL if int8 else FP32_MODEL)
    graph.parent.mkdir(parents=True, exist_ok=True)
    foreign = None if int8 else read_foreign(fp32 or bundle.model_path, SPECS[task], bundle.config)
    onnx.save(foreign.model if foreign else read_onnx(bundle.model_path), graph)
    if POOLED in SPECS[task].graph_outputs:
        _pool(bundle, graph, stage)
    session = open_graph(graph, threads=1, exact_products=True)
    compared = build_task(bundle, graph_outputs(session)).output_names
    if foreign:  # which does not pool, where we do
        compared = compared if set(compared) <= set(foreign.output_names) else foreign.output_names
    manifest = bundle.manifest
    return Source(
        name=bundle.name,
        student=manifest.student if manifest else _record(bundle, graph),
        teacher=manifest.teacher if manifest else None,
        data=tuple(record for record in manifest.data if record.used_for == "train") if manifest else (),
        reference=foreign.reference(compared) if foreign else onnx_run(session, compared),
        compared=compared,
        is_half=foreign is not None and foreign.is_half,
        teacher_figures=lambda _: manifest.metrics.teacher if manifest else None,
        int8=int8,
        rewrites=manifest.graph.rewrites if manifest and manifest.graph else (),
    )


def dev_record(path: Path) -> DataRecord:
    """Describe the file that every check runs on."""
    return _data_record(describe(path), "dev")


def rounded(figures: Figures) -> Figures:
    """Round figures as the manifest keeps them."""
    return {key: round(value, 3) for key, value in figures.items()}


def _measure_teacher(teacher: FinetunedModel, dev: DevSet) -> Figures:
    task = checkpoint_task(teacher.path, teacher.task)
    answer = answerer(task, torch_run(teacher.model, task.output_names))
    return rounded(measure(answer, dev, task, name="teacher"))


def _training_data(models: Sequence[FinetunedModel]) -> tuple[DataRecord, ...]:
    """List every file that trained any of the models, once."""
    files = [data for model in models if model.training for data in model.training.data]
    return tuple({data.sha256: _data_record(data, "train") for data in files}.values())


def _data_record(data: TrainingData, used_for: Literal["train", "dev"]) -> DataRecord:
    source, licence = PUBLIC_DATA.get(data.name, (None, None))
    return DataRecord(
        name=data.name,
        sha256=data.sha256,
        bytes=data.bytes,
        used_for=used_for,
        source=source,
        licence=data.licence or licence,
    )


def _int8_origin(bundle: Bundle) -> Int8Origin:
    manifest = bundle.manifest
    if manifest is None or manifest.metrics.student_int8 is None:
        remedy = f"name a float graph as file in {OVERRIDES}"
        if not bundle.overrides.file:
            remedy = f"add the fp32 {FP32_MODEL}, or {remedy}"
        raise ExportError(f"{bundle.model_path} is int8 already, and no manifest says what it was made from; {remedy}")
    return Int8Origin(manifest.metrics.student_fp32, manifest.quantization)


def with_embedding(run: Run, task: SentenceEmbedding) -> Run:
    """Add the embedding to a run that gives the states of the tokens."""

    def run_and_pool(features: Features) -> Outputs:
        (states,) = run(features)
        return states, task.pool(states)

    return run_and_pool


def _pool(bundle: Bundle, graph: Path, stage: Path) -> None:
    """Add the pooled embedding to a graph that gives only states, which get transformers' name."""
    outputs = [output.name for output in onnx.load(graph).graph.output]
    build_task(replace(bundle, weights=read_weights), outputs)  # which refuses what cannot be embedded with
    if POOLED in outputs:
        if bundle.overrides.pooling:
            raise ExportError(f"{bundle.path / OVERRIDES}: the graph pools by itself; remove pooling")
        head = read_head(bundle.path, bundle.overrides)
    else:
        head = known_head(bundle, can_weigh=True)
        add_pooling(graph, head, read_weights)
    pooled = replace(bundle, overrides=bundle.overrides.model_copy(update={"pooling": None}))
    task = build_task(pooled, [POOLED])
    assert isinstance(task, SentenceEmbedding), "it has this output"
    write_sentence_files(stage, task, _number(bundle, HIDDEN), head if STATES in outputs else None)


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
