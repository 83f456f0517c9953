"""Makes a bundle of a checkpoint or of ONNX: convert, quantize, rewrite, compare, measure, write."""

import logging
from collections.abc import Collection, Sequence
from contextlib import suppress
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import onnx
import onnxruntime as ort

from export.abstaining import measured_threshold, settle_threshold
from export.bench.timing import Latencies, latencies
from export.card import model_card
from export.checkpoint import ExportError
from export.graph.normalize import opset_of
from export.graph.quantize import quantize
from export.graph.rewrites.apply import disabled_optimizers, rewrite
from export.neighbours import Answered, Neighbours, checked_neighbours
from export.options import ExportOptions
from export.source import Figures, Int8Origin, Source, checkpoint_source, dev_record, onnx_source, rounded
from export.staging import check_replaceable, file_records, staging
from export.verify import (
    MAX_HALF_DIFFERENCE,
    MAX_LOGIT_DIFFERENCE,
    MAX_REWRITE_DIFFERENCE,
    MIN_AGREEMENT,
    PADDED_INPUTS,
    check,
    check_agreement,
    max_logit_difference,
    padded_run,
    parity_inputs,
    relative_difference,
)
from models.devset import DevOptions, DevSet, answers, score_all
from models.files import Reading
from models.finetune.recipes import RECIPES
from models.tasks.base import AnySpec, AnyTask, Features, Run, TaskName, answerer
from models.tasks.build import SPECS, build_task
from models.tasks.bundle import DISABLED_OPTIMIZERS, FP32_MODEL, INT8_MODEL, MANIFEST, Bundle, load_bundle
from models.tasks.directory.files import CONFIG, read_optional_json
from models.tasks.directory.graph import Precision
from models.tasks.directory.model import read_directory
from models.tasks.manifest import Checks, GraphRecord, Manifest, Metrics, Quantization
from models.tasks.options import refuse_idle
from models.tasks.session import graph_outputs, onnx_run, open_graph

logger = logging.getLogger(__name__)

TOOLS = ("torch", "transformers", "optimum-onnx", "onnx", "onnxruntime", "tokenizers")


@dataclass(frozen=True, slots=True)
class Exported:
    """A bundle in its place, and how fast its graph is beside what it was before its rewrites."""

    bundle: Bundle
    latencies: Latencies


@dataclass(frozen=True, slots=True)
class ExportRun:
    """What the steps of one export share. `inputs`: the windows that graphs are compared on, the shortest first."""

    options: ExportOptions
    source: Source
    stage: Path
    scratch: Path
    dev: DevSet
    inputs: Sequence[Features]

    @property
    def spec(self) -> AnySpec:
        return SPECS[self.options.task]


@dataclass(frozen=True, slots=True)
class Rewritten:
    """A graph of the stage, and how it is to be opened; without its rewrites it lies at `original_path`."""

    path: Path
    original_path: Path
    record: GraphRecord
    precision: Precision


@dataclass(frozen=True, slots=True)
class Verified:
    """A graph that passed its checks, its run, and the task as whoever serves the bundle will build it.

    `difference` is to the model that went in (fp32, the largest of any logit), or by the rewrites (int8, the mean, as a
    share of the largest logit). `results`: what it says to each input of the dev set.
    """

    graph: Rewritten
    run: Run
    task: AnyTask
    results: Sequence[Any]  # of the task
    figures: Figures
    difference: float

    @property
    def answered(self) -> Answered:
        return Answered(self.results, answerer(self.task, self.run))


@dataclass(frozen=True, slots=True)
class Graphs:
    """What became of the graphs. `shipped` is the one that is served; `metric_drop`: what int8 loses, in points.

    `agreement`: the percent of the fp32 graph's answers that int8 keeps, and `neighbours` what a search still finds;
    None where one of them was not there to ask.
    """

    fp32_figures: Figures
    max_logit_difference: float
    quantization: Quantization | None
    int8: Verified | None
    metric_drop: float | None
    agreement: float | None
    neighbours: Neighbours | None
    shipped: Verified


def export(options: ExportOptions) -> Exported:
    """Write the bundle at `options.out` if it passes every check; what lay there before stays until then.

    Raises: ExportError, DataError, BundleError, VerifyError; then nothing was written.
    """
    out = options.out.resolve()
    check_replaceable(out)
    origin = options.student or options.from_onnx
    if origin is None:
        raise ExportError("give a checkpoint (student) or a directory with ONNX (from_onnx)")
    dev = RECIPES[options.task].dev_set(
        options.dev,
        DevOptions(
            on_overflow=options.on_overflow,
            language=options.language,
            config=read_optional_json(origin / CONFIG),
            reading=Reading(quoting=options.quoting, skip_bad=options.skip_bad),
        ),
    )
    with staging(out) as stage, TemporaryDirectory() as scratch:
        logger.info("reading %s", origin)
        source = (
            checkpoint_source(stage, options.task, options.student, Path(options.teacher) if options.teacher else None)
            if options.student
            else onnx_source(stage, options.task, origin)
        )
        settle_threshold(stage, origin, options, lambda task: measured_threshold(task, source.reference, dev))
        task = _staged_task(stage, options.task)
        dev.check(task)
        inputs = parity_inputs(task, dev.inputs, options.seed)
        run = ExportRun(options, source, stage, Path(scratch), dev, inputs)
        graphs = graphs_of_int8(run, source.int8) if source.int8 else graphs_of_fp32(run)
        write_manifest(run, graphs)
        latencies = _latencies_of(graphs.shipped)
        load_bundle(stage)  # what a service would refuse is not put in place either
    return Exported(load_bundle(out), latencies)


def graphs_of_fp32(run: ExportRun) -> Graphs:
    """Verify the fp32 graph and, unless it is unwanted, the int8 graph that is made of it. Raises: VerifyError."""
    options, path = run.options, run.stage / FP32_MODEL
    quantization = None
    if options.int8:  # before the rewrites, which int8 has of its own
        logger.info("quantizing to int8")
        quantization = quantize(
            path,
            run.stage / INT8_MODEL,
            reduce_range=options.reduce_range,
            keep_float=options.keep_float,
            windows=run.inputs if options.smooth else (),
        )
    fp32 = verified_fp32(run)
    if quantization is None:
        return Graphs(fp32.figures, fp32.difference, None, None, None, None, None, shipped=fp32)
    int8 = verified_int8(run)
    metric_drop = checked_drop(run, fp32.figures, int8.figures)
    agreement = checked_agreement(run, fp32.results, int8.results)
    neighbours = checked_neighbours(options, run.dev, fp32.answered, int8.answered)
    if not options.keep_fp32:
        path.unlink()
    return Graphs(fp32.figures, fp32.difference, quantization, int8, metric_drop, agreement, neighbours, shipped=int8)


def graphs_of_int8(run: ExportRun, origin: Int8Origin) -> Graphs:
    """Verify an int8 graph that came without the one that it was made of. Raises: ExportError, VerifyError."""
    options = run.options
    if options.keep_float or options.reduce_range or options.keep_fp32 or not (options.int8 and options.smooth):
        raise ExportError(
            f"{options.from_onnx} contains only an int8 graph, which cannot be requantized; remove --keep-float, "
            "--reduce-range, --keep-fp32, --no-int8 and --no-smooth"
        )
    limits = [name for name in ("min_agreement", "min_neighbours", "sentences") if getattr(options, name)]  # 0 is none
    refuse_idle(options, limits, "without a float graph to compare int8 with")
    int8 = verified_int8(run)
    metric_drop = checked_drop(run, origin.fp32_figures, int8.figures)
    return Graphs(origin.fp32_figures, 0.0, origin.quantization, int8, metric_drop, None, None, shipped=int8)


def verified_fp32(run: ExportRun) -> Verified:
    """Rewrite the fp32 graph, compare it with the model that went in, and measure it. Raises: VerifyError."""
    graph = rewritten(run, run.stage / FP32_MODEL, "fp32")
    session, task = _opened(run, graph)
    difference = max_logit_difference(onnx_run(session, run.source.compared), run.source.reference, run.inputs)
    if run.source.is_half:
        share = relative_difference(onnx_run(session, run.source.compared), run.source.reference, run.inputs)
        check("the mean difference of fp32 logits to those in 16 bits, of the largest", share, MAX_HALF_DIFFERENCE)
    else:
        check("the largest logit difference of fp32 ONNX to the model that went in", difference, MAX_LOGIT_DIFFERENCE)
    check_padding(run, graph, task)
    forward = onnx_run(session, task.output_names)
    return _measured(run, graph, forward, task, difference)


def verified_int8(run: ExportRun) -> Verified:
    """Rewrite the int8 graph, compare it with itself before, and measure it. Raises: VerifyError."""
    graph = rewritten(run, run.stage / INT8_MODEL, "int8")
    session, task = _opened(run, graph)
    forward = onnx_run(session, task.output_names)
    original_session = _open_exactly(graph.original_path, DISABLED_OPTIMIZERS["int8"])
    difference = relative_difference(forward, onnx_run(original_session, task.output_names), run.inputs)
    check("the mean difference of int8 logits by its rewrites, of the largest", difference, MAX_REWRITE_DIFFERENCE)
    check_padding(run, graph, task)
    return _measured(run, graph, forward, task, difference)


def checked_drop(run: ExportRun, fp32_figures: Figures, int8_figures: Figures) -> float:
    """Returns: what int8 loses of the deciding figure, in points. Raises: VerifyError."""
    figure = run.spec.figure
    drop = round(fp32_figures[figure] - int8_figures[figure], 3)
    check(f"the loss of int8 in points of {figure} on dev", drop, run.options.max_metric_drop)
    return drop


def checked_agreement(run: ExportRun, fp32_results: Sequence[Any], int8_results: Sequence[Any]) -> float:
    """Returns: the percent of the fp32 graph's answers that int8 keeps. Raises: VerifyError.

    A model that was trained here is judged by its figure alone: near-ties among its answers may fall either way.
    """
    agreements = [run.spec.kept(*row) for row in zip(run.dev.inputs, fp32_results, int8_results, strict=True)]
    agreement = round(100 * sum(agreements) / len(agreements), 3)
    bound = run.options.min_agreement
    if bound is None and run.source.student.training is None:
        bound = MIN_AGREEMENT
    if bound is not None:
        check_agreement(agreements, bound)
    return agreement


def rewritten(run: ExportRun, path: Path, precision: Precision) -> Rewritten:
    """Rewrite a graph of the stage in place; what it was stays in the scratch directory."""
    original_path = run.scratch / path.name
    model = onnx.load(path)
    onnx.save(model, original_path)
    rewrites = (*run.source.rewrites, *(rewrite(model) if run.options.rewrite else ()))
    onnx.save(model, path)
    logger.info("%s: %d nodes, %s", path.name, len(model.graph.node), ", ".join(rewrites) or "not rewritten")
    record = GraphRecord(rewrites=rewrites, disabled_optimizers=disabled_optimizers(rewrites, precision))
    return Rewritten(path, original_path, record, precision)


def check_padding(run: ExportRun, graph: Rewritten, task: AnyTask) -> None:
    """Compare the rewritten graph with the one before on windows that stand beside a longer one in their batch."""
    rewritten_run, original_run = (
        padded_run(
            _open_exactly(path, graph.record.disabled_optimizers),
            task.output_names,
            run.spec.token_outputs,
            neighbour=run.inputs[-1],
        )
        for path in (graph.path, graph.original_path)
    )
    sample = run.inputs[:: max(1, len(run.inputs) // PADDED_INPUTS)]
    if graph.precision == "fp32":
        difference, bound = max_logit_difference(rewritten_run, original_run, sample), MAX_LOGIT_DIFFERENCE
    else:
        difference, bound = relative_difference(rewritten_run, original_run, sample), MAX_REWRITE_DIFFERENCE
    check(f"the difference of padded {graph.precision} logits by the rewrites", difference, bound)


def write_manifest(run: ExportRun, graphs: Graphs) -> None:
    """Write the model card and the manifest, which lists the card and all other files of the stage."""
    manifest = manifest_of(run, graphs)
    card = model_card(manifest, graphs.shipped.task, stage=run.stage, directory=str(run.options.out))
    (run.stage / "README.md").write_text(card, encoding="utf-8")
    manifest = manifest.model_copy(update={"files": file_records(run.stage)})
    (run.stage / MANIFEST).write_text(manifest.model_dump_json(indent=2) + "\n", encoding="utf-8")


def manifest_of(run: ExportRun, graphs: Graphs) -> Manifest:
    """Gather what is known of the bundle, its files as they are now."""
    options, source, shipped = run.options, run.source, graphs.shipped
    answer = answerer(shipped.task, shipped.run)
    return Manifest(
        schema_version=1,
        task=options.task,
        name=options.name or source.name,
        student=source.student,
        teacher=source.teacher,
        data=(*source.data, dev_record(options.dev)),
        command=options.command,
        seed=options.seed,
        tools=_tools(),
        opset=opset_of(onnx.load(shipped.graph.path, load_external_data=False)),
        quantization=graphs.quantization,
        graph=shipped.graph.record,
        metrics=Metrics(
            data=options.dev.name,
            teacher=source.teacher_figures(run.dev),
            student_fp32=graphs.fp32_figures,
            student_int8=graphs.int8.figures if graphs.int8 else None,
        ),
        checks=Checks(
            parity_inputs=len(run.inputs),
            max_logit_difference=graphs.max_logit_difference,
            metric_drop=graphs.metric_drop,
            agreement=graphs.agreement,
            agreement_inputs=None if graphs.agreement is None else len(run.dev.inputs),
            neighbour_overlap=graphs.neighbours.overlap if graphs.neighbours else None,
            neighbour_inputs=graphs.neighbours.inputs if graphs.neighbours else None,
            rewrite_difference=graphs.int8.difference if graphs.int8 else None,
        ),
        golden=tuple(run.spec.record(item, answer(item)) for item in run.spec.golden_inputs),
        files=file_records(run.stage),
    )


def _latencies_of(shipped: Verified) -> Latencies:
    """Time the graph before and after its rewrites, with the products that this CPU serves."""
    graph, task = shipped.graph, shipped.task
    original_session = open_graph(
        graph.original_path, threads=1, disabled_optimizers=DISABLED_OPTIMIZERS[graph.precision]
    )
    session = open_graph(graph.path, threads=1, disabled_optimizers=graph.record.disabled_optimizers)
    names = task.output_names
    return latencies(onnx_run(original_session, names), onnx_run(session, names), max_length=task.max_length)


def _measured(run: ExportRun, graph: Rewritten, forward: Run, task: AnyTask, difference: float) -> Verified:
    """Ask a graph that passed its checks every input of the dev set."""
    results = answers(answerer(task, forward), run.dev, name=f"student, {graph.precision}")
    return Verified(graph, forward, task, results, rounded(score_all(results, run.dev, task)), difference)


def _opened(run: ExportRun, graph: Rewritten) -> tuple[ort.InferenceSession, AnyTask]:
    """Open a graph of the stage, and build the task as whoever serves the bundle will. Raises: ExportError."""
    session = _open_exactly(graph.path, graph.record.disabled_optimizers)
    task = build_task(read_directory(run.stage, run.options.task), graph_outputs(session))
    try:
        answerer(task, onnx_run(session, task.output_names))(run.spec.warm_up)
    except ValueError as error:  # as a kernel says that a graph does not fit the configuration
        raise ExportError(f"{run.source.name} cannot answer: {error}; correct its {CONFIG}") from error
    return session, task


def _open_exactly(path: Path, optimizers: Collection[str]) -> ort.InferenceSession:
    """Open a graph as every check does: on one thread, its figures the same on every CPU. `optimizers`: left out."""
    return open_graph(path, threads=1, exact_products=True, disabled_optimizers=optimizers)


def _staged_task(stage: Path, name: TaskName) -> AnyTask:
    """Build the task over the one graph that the stage holds yet."""
    path = next(path for file in (FP32_MODEL, INT8_MODEL) if (path := stage / file).exists())
    model = onnx.load(path, load_external_data=False)
    return build_task(read_directory(stage, name), [output.name for output in model.graph.output])


def _tools() -> dict[str, str]:
    """Read the versions of the libraries that make a bundle; optimum need not be installed."""
    versions = {}
    for tool in TOOLS:
        with suppress(PackageNotFoundError):
            versions[tool] = version(tool)
    return versions
