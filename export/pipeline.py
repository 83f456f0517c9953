"""From a student's checkpoint to a bundle: convert, compare, quantize, measure, write."""

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory

from export.card import PUBLIC_DATA, model_card
from export.checkpoint import Checkpoint, ExportError, load_checkpoint
from export.convert import OPSET, convert
from export.golden import golden
from export.quantize import quantize
from export.sentence import write_sentence_configs
from export.verify import MAX_LOGIT_DIFFERENCE, check, max_logit_difference, parity_inputs
from models.data import describe
from models.devset import DevSet, measure, read_dev
from models.predict import Run, answers, checkpoint_task, load_graph, onnx_run, torch_run, without_graph
from models.tasks.build import AnyTask, build_task
from models.tasks.bundle import (
    FP32_MODEL,
    INT8_MODEL,
    MANIFEST,
    Bundle,
    Checks,
    DataRecord,
    FileRecord,
    Manifest,
    Metrics,
    Precision,
    TaskName,
    load_bundle,
    sha256_of,
)
from models.tasks.texts import OnOverflow

logger = logging.getLogger(__name__)

TOOLS = ("torch", "transformers", "optimum-onnx", "onnx", "onnxruntime", "tokenizers")


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportOptions:
    """`max_metric_drop`: points of the dev set's figure that int8 may lose; `command` is for the record."""

    task: TaskName
    student: Path
    dev: Path
    out: Path
    teacher: Path | None = None
    name: str | None = None
    int8: bool = True
    keep_fp32: bool = False
    reduce_range: bool = False
    keep_float: Sequence[str] = ()
    max_metric_drop: float = 0.5
    on_overflow: OnOverflow = "truncate"
    seed: int = 0
    command: str = ""


def export(options: ExportOptions) -> Bundle:
    """Write the bundle at `options.out` if it passes every check; what lay there before stays until then.

    Raises: ExportError, DataError, VerifyError; then nothing was written.
    """
    out = options.out.resolve()
    _check_replaceable(out)
    student = load_checkpoint(options.student, options.task)
    teacher = load_checkpoint(options.teacher, options.task) if options.teacher else None
    multi_label = student.model.config.problem_type == "multi_label_classification"
    dev = read_dev(options.task, options.dev, on_overflow=options.on_overflow, multi_label=multi_label)
    with _staged(out) as stage:
        _build(stage, options, student, teacher, dev)
        load_bundle(stage)  # what a service would refuse is not put in place either
    return load_bundle(out)


def _build(stage: Path, options: ExportOptions, student: Checkpoint, teacher: Checkpoint | None, dev: DevSet) -> None:
    fp32, int8 = stage / FP32_MODEL, stage / INT8_MODEL
    logger.info("converting %s to ONNX", student.path)
    convert(student.model, options.task, fp32)
    student.model.config.save_pretrained(stage)
    student.tokenizer.save_pretrained(stage, legacy_format=False)  # tokenizer.json alone, no second vocabulary
    task = checkpoint_task(student.path, options.task)
    if options.task == "similarity":
        write_sentence_configs(stage, task.max_length, student.model.config.hidden_size)

    inputs = parity_inputs(task, dev.inputs, options.seed)
    fp32_run = onnx_run(load_graph(fp32, "fp32"), task.output_names)
    difference = max_logit_difference(fp32_run, torch_run(student.model, task.output_names), inputs)
    check("the largest logit difference of fp32 ONNX to PyTorch", difference, MAX_LOGIT_DIFFERENCE)
    run, task = _served(stage, fp32, "fp32", options.task)
    student_fp32 = _measure("student, fp32", run, task, dev)

    quantization, student_int8, drop = None, None, None
    if options.int8:
        logger.info("quantizing to int8")
        quantization = quantize(fp32, int8, reduce_range=options.reduce_range, keep_float=options.keep_float)
        run, task = _served(stage, int8, "int8", options.task)
        student_int8 = _measure("student, int8", run, task, dev)
        drop = round(student_fp32[dev.figure] - student_int8[dev.figure], 3)
        check(f"the loss of int8 in points of {dev.figure} on dev", drop, options.max_metric_drop)
        if not options.keep_fp32:
            fp32.unlink()

    manifest = Manifest(
        schema_version=1,
        task=options.task,
        name=options.name or student.name,
        student=student.record(),
        teacher=teacher.record() if teacher else None,
        data=_data_records(options.dev, [checkpoint for checkpoint in (teacher, student) if checkpoint]),
        command=options.command,
        seed=options.seed,
        tools={tool: version(tool) for tool in TOOLS},
        opset=OPSET,
        quantization=quantization,
        metrics=Metrics(
            data=options.dev.name,
            teacher=_measure_checkpoint("teacher", teacher, dev) if teacher else None,
            student_fp32=student_fp32,
            student_int8=student_int8,
        ),
        checks=Checks(parity_inputs=len(inputs), max_logit_difference=difference, metric_drop=drop),
        golden=golden(answers(run, task), options.task),
        files=_file_records(stage),
    )
    (stage / "README.md").write_text(model_card(manifest, task, directory=str(options.out)), encoding="utf-8")
    manifest = manifest.model_copy(update={"files": _file_records(stage)})
    (stage / MANIFEST).write_text(manifest.model_dump_json(indent=2) + "\n", encoding="utf-8")


def _served(stage: Path, graph: Path, precision: Precision, name: TaskName) -> tuple[Run, AnyTask]:
    """A graph of the bundle, and the task as whoever serves the bundle will build it."""
    session = load_graph(graph, precision)
    task = build_task(without_graph(stage, name), [output.name for output in session.get_outputs()])
    return onnx_run(session, task.output_names), task


def _measure(name: str, run: Run, task: AnyTask, dev: DevSet) -> dict[str, float]:
    return {key: round(value, 3) for key, value in measure(answers(run, task), dev, task, name=name).items()}


def _measure_checkpoint(name: str, checkpoint: Checkpoint, dev: DevSet) -> dict[str, float]:
    task = checkpoint_task(checkpoint.path, checkpoint.task)
    return _measure(name, torch_run(checkpoint.model, task.output_names), task, dev)


def _data_records(dev: Path, checkpoints: Sequence[Checkpoint]) -> tuple[DataRecord, ...]:
    """Every file once: those that trained any of the checkpoints, and the dev file."""
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
    source, licence = PUBLIC_DATA.get(dev.name, (None, None))
    return (*used.values(), DataRecord(**describe(dev), used_for="dev", source=source, licence=licence))


def _file_records(stage: Path) -> tuple[FileRecord, ...]:
    files = sorted(file for file in stage.rglob("*") if file.is_file() and file.name != MANIFEST)
    return tuple(
        FileRecord(path=file.relative_to(stage).as_posix(), bytes=file.stat().st_size, sha256=sha256_of(file))
        for file in files
    )


def _check_replaceable(out: Path) -> None:
    """Raises: ExportError if something else than a bundle would be replaced."""
    if out.exists() and not (out / MANIFEST).exists() and not (out.is_dir() and not any(out.iterdir())):
        raise ExportError(f"{out} exists and is no bundle; remove it or give another --out")


@contextmanager
def _staged(out: Path) -> Iterator[Path]:
    """A directory beside `out` that takes its place when the block ends without an exception."""
    out.parent.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=out.parent, prefix=f".{out.name}-") as directory:
        stage, replaced = Path(directory, "bundle"), Path(directory, "replaced")
        stage.mkdir()
        yield stage
        if out.exists():
            out.rename(replaced)
        try:
            stage.rename(out)
        except OSError:
            if replaced.exists():
                replaced.rename(out)
            raise
