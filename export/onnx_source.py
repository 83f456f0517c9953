"""Export without a checkpoint: from a bundle's own graph, or from somebody else's directory with ONNX in it."""

import math
import shutil
from collections.abc import Sequence
from pathlib import Path

import onnx

from export.checkpoint import ExportError
from export.pooling import TOKENS, add_pooling
from export.sentence import write_sentence_configs
from export.source import Figures, Source
from models.devset import DevSet
from models.tasks.base import TaskName
from models.tasks.build import MODULES, POOLING_CONFIG, SENTENCE_CONFIG, build_task
from models.tasks.bundle import CONFIG, FP32_MODEL, INT8_MODEL, TOKENIZER, Bundle, load_bundle, sha256_of
from models.tasks.manifest import ModelRecord
from models.tasks.session import load_graph, onnx_run
from models.tasks.similarity import POOLED

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
    if task == "similarity":
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
        if TOKENS not in outputs:
            raise ExportError(f"{bundle.model_path} has no output {TOKENS}, which its embeddings are the mean of")
        add_pooling(graph)
        write_sentence_configs(stage, task.max_length, _number(bundle, HIDDEN))


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
