"""From a checkpoint, or from ONNX, to a bundle: convert, quantize, rewrite, compare, measure, write."""

import logging
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory

import onnx

from export.bench.timing import Latencies, latencies
from export.card import model_card
from export.checkpoint import ExportError
from export.graph.quantize import quantize
from export.graph.rewrites.apply import disabled_optimizers, rewrite
from export.source import Figures, Source, checkpoint_source, dev_record, onnx_source, rounded
from export.staging import check_replaceable, file_records, staged
from export.verify import (
    MAX_LOGIT_DIFFERENCE,
    MAX_REWRITE_DIFFERENCE,
    PADDED_INPUTS,
    check,
    max_logit_difference,
    padded_run,
    parity_inputs,
    relative_difference,
)
from models.devset import DevOptions, DevSet, measure
from models.finetune.recipes import RECIPES
from models.tasks.base import AnyTask, Features, Precision, Run, TaskName, answerer
from models.tasks.build import SPECS, build_task
from models.tasks.bundle import DISABLED_OPTIMIZERS, FP32_MODEL, INT8_MODEL, MANIFEST, Bundle, load_bundle
from models.tasks.directory import read_directory
from models.tasks.manifest import Checks, GraphRecord, Manifest, Metrics
from models.tasks.session import load_graph, onnx_run
from models.tasks.texts import OnOverflow

logger = logging.getLogger(__name__)

TOOLS = ("torch", "transformers", "optimum-onnx", "onnx", "onnxruntime", "tokenizers")


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportOptions:
    """`student` (a checkpoint) or `from_onnx`; `max_metric_drop`: points of the dev set's figure that int8 may lose;
    `command` is for the record.
    """

    task: TaskName
    dev: Path
    out: Path
    student: Path | None = None
    from_onnx: Path | None = None
    teacher: Path | None = None
    name: str | None = None
    int8: bool = True
    rewrite: bool = True
    keep_fp32: bool = False
    reduce_range: bool = False
    keep_float: Sequence[str] = ()
    max_metric_drop: float = 0.5
    on_overflow: OnOverflow = "truncate"
    seed: int = 0
    command: str = ""


@dataclass(frozen=True, slots=True)
class Rewritten:
    """A graph of the stage, and how it is to be opened. `before` is it without its rewrites, elsewhere."""

    path: Path
    before: Path
    record: GraphRecord
    precision: Precision


@dataclass(frozen=True, slots=True)
class Exported:
    """A bundle in its place, and how fast its graph is beside what it was before its rewrites."""

    bundle: Bundle
    latencies: Latencies


def export(options: ExportOptions) -> Exported:
    """Write the bundle at `options.out` if it passes every check; what lay there before stays until then.

    Raises: ExportError, DataError, BundleError, VerifyError; then nothing was written.
    """
    out = options.out.resolve()
    check_replaceable(out)
    given = options.student or options.from_onnx
    if given is None:
        raise ExportError("give a checkpoint (student) or a directory with ONNX (from_onnx)")
    dev = RECIPES[options.task].dev_set(options.dev, DevOptions(on_overflow=options.on_overflow))
    with staged(out) as stage, TemporaryDirectory() as scratch:
        logger.info("reading %s", given)
        source = (
            checkpoint_source(stage, options.task, options.student, options.teacher)
            if options.student
            else onnx_source(stage, options.task, given)
        )
        measured = _build(stage, Path(scratch), options, source, dev)
        load_bundle(stage)  # what a service would refuse is not put in place either
    return Exported(load_bundle(out), measured)


def _build(stage: Path, scratch: Path, options: ExportOptions, source: Source, dev: DevSet) -> Latencies:
    fp32, int8 = stage / FP32_MODEL, stage / INT8_MODEL
    if not fp32.exists() and (options.keep_float or options.reduce_range or options.keep_fp32 or not options.int8):
        raise ExportError(
            f"{options.from_onnx} has an int8 graph alone, whose weights stay as they are; leave out --keep-float, "
            "--reduce-range, --keep-fp32 and --no-int8"
        )
    _, task = _served(stage, fp32 if fp32.exists() else int8, options.task, ())
    inputs = parity_inputs(task, dev.inputs, options.seed)
    quantization, difference, fp32_figures = source.quantization, 0.0, source.fp32_figures
    if fp32.exists():
        if options.int8:
            logger.info("quantizing to int8")
            quantization = quantize(fp32, int8, reduce_range=options.reduce_range, keep_float=options.keep_float)
        graph = _rewrite(fp32, scratch, "fp32", options, source.rewrites)
        run, task = _served(stage, fp32, options.task, graph.record.disabled_optimizers)
        own = onnx_run(load_graph(fp32, graph.record.disabled_optimizers), source.compared)
        difference = max_logit_difference(own, source.reference, inputs)
        check("the largest logit difference of fp32 ONNX to the model that went in", difference, MAX_LOGIT_DIFFERENCE)
        _check_padding(graph, inputs, task, SPECS[options.task].token_outputs)
        fp32_figures = _measure("student, fp32", run, task, dev)
    assert fp32_figures is not None
    int8_figures, drop, moved = None, None, None
    if int8.exists():
        graph = _rewrite(int8, scratch, "int8", options, source.rewrites)
        run, task = _served(stage, int8, options.task, graph.record.disabled_optimizers)
        before = onnx_run(load_graph(graph.before, DISABLED_OPTIMIZERS["int8"]), task.output_names)
        moved = relative_difference(run, before, inputs)
        check("the mean difference of int8 logits by its rewrites, of the largest", moved, MAX_REWRITE_DIFFERENCE)
        _check_padding(graph, inputs, task, SPECS[options.task].token_outputs)
        int8_figures = _measure("student, int8", run, task, dev)
        figure = SPECS[options.task].figure
        drop = round(fp32_figures[figure] - int8_figures[figure], 3)
        check(f"the loss of int8 in points of {figure} on dev", drop, options.max_metric_drop)
        if fp32.exists() and not options.keep_fp32:
            fp32.unlink()

    spec, answer = SPECS[options.task], answerer(task, run)
    manifest = Manifest(
        schema_version=1,
        task=options.task,
        name=options.name or source.name,
        student=source.student,
        teacher=source.teacher,
        data=(*source.data, dev_record(options.dev)),
        command=options.command,
        seed=options.seed,
        tools={tool: version(tool) for tool in TOOLS},
        opset=_opset(graph.path),
        quantization=quantization,
        graph=graph.record,
        metrics=Metrics(
            data=options.dev.name,
            teacher=source.teacher_figures(dev),
            student_fp32=fp32_figures,
            student_int8=int8_figures,
        ),
        checks=Checks(
            parity_inputs=len(inputs), max_logit_difference=difference, metric_drop=drop, rewrite_difference=moved
        ),
        golden=tuple(spec.record(item, answer(item)) for item in spec.golden_inputs),
        files=file_records(stage),
    )
    (stage / "README.md").write_text(model_card(manifest, task, directory=str(options.out)), encoding="utf-8")
    manifest = manifest.model_copy(update={"files": file_records(stage)})
    (stage / MANIFEST).write_text(manifest.model_dump_json(indent=2) + "\n", encoding="utf-8")
    return _latencies(graph, task)


def _rewrite(
    path: Path, scratch: Path, precision: Precision, options: ExportOptions, earlier: tuple[str, ...]
) -> Rewritten:
    """Rewrite a graph of the stage in place; what it was stays in `scratch`. `earlier`: what it has been through."""
    before = scratch / path.name
    model = onnx.load(path)
    onnx.save(model, before)
    applied = (*earlier, *(rewrite(model) if options.rewrite else ()))
    onnx.save(model, path)
    logger.info("%s: %d nodes, %s", path.name, len(model.graph.node), ", ".join(applied) or "not rewritten")
    record = GraphRecord(rewrites=applied, disabled_optimizers=disabled_optimizers(applied, precision))
    return Rewritten(path, before, record, precision)


def _check_padding(graph: Rewritten, inputs: Sequence[Features], task: AnyTask, token_outputs: Collection[str]) -> None:
    """Beside a longer window in its batch, a window gets what the graph before its rewrites gives it there."""
    after, before = (
        padded_run(
            load_graph(path, graph.record.disabled_optimizers), task.output_names, token_outputs, beside=inputs[-1]
        )
        for path in (graph.path, graph.before)
    )
    chosen = inputs[:: max(1, len(inputs) // PADDED_INPUTS)]
    if graph.precision == "fp32":
        difference, bound = max_logit_difference(after, before, chosen), MAX_LOGIT_DIFFERENCE
    else:
        difference, bound = relative_difference(after, before, chosen), MAX_REWRITE_DIFFERENCE
    check(f"the difference of padded {graph.precision} logits by the rewrites", difference, bound)


def _latencies(graph: Rewritten, task: AnyTask) -> Latencies:
    """Of the graph before and after its rewrites, with the products that this CPU serves."""
    before = load_graph(graph.before, DISABLED_OPTIMIZERS[graph.precision], exact_products=False)
    after = load_graph(graph.path, graph.record.disabled_optimizers, exact_products=False)
    names = task.output_names
    return latencies(onnx_run(before, names), onnx_run(after, names), max_length=task.max_length)


def _served(stage: Path, graph: Path, name: TaskName, disabled: Collection[str]) -> tuple[Run, AnyTask]:
    """A graph of the bundle, and the task as whoever serves the bundle will build it."""
    session = load_graph(graph, disabled)
    task = build_task(read_directory(stage, name), [output.name for output in session.get_outputs()])
    return onnx_run(session, task.output_names), task


def _measure(name: str, run: Run, task: AnyTask, dev: DevSet) -> Figures:
    return rounded(measure(answerer(task, run), dev, task, name=name))


def _opset(graph: Path) -> int:
    opsets = onnx.load(graph, load_external_data=False).opset_import
    number: int = next(entry.version for entry in opsets if entry.domain in ("", "ai.onnx"))
    return number
