"""From a student's checkpoint to a bundle: convert, compare, quantize, measure, write."""

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory

from tqdm import tqdm

from export.card import PUBLIC_DATA, model_card
from export.checkpoint import Checkpoint, ExportError, load_checkpoint
from export.convert import OPSET, convert
from export.golden import golden_answers
from export.quantize import quantize
from export.verify import MAX_LOGIT_DIFFERENCE, check, max_logit_difference, parity_inputs
from models.data import QAExample, describe, read_dev
from models.evaluate import evaluate_qa
from models.predict import Run, load_graph, torch_run
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
    load_bundle,
    sha256_of,
)
from models.tasks.qa import QuestionAnswering

logger = logging.getLogger(__name__)

TOOLS = ("torch", "transformers", "optimum-onnx", "onnx", "onnxruntime", "tokenizers")


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportOptions:
    """`max_metric_drop`: points of F1 on answerable dev questions that int8 may lose; `command` is for the record."""

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
    seed: int = 0
    command: str = ""


def export(options: ExportOptions) -> Bundle:
    """Write the bundle at `options.out` if it passes every check; what lay there before stays until then.

    Raises: ExportError, DataError, VerifyError; then nothing was written.
    """
    out = options.out.resolve()
    _check_replaceable(out)
    examples = read_dev(options.dev)
    student = load_checkpoint(options.student)
    teacher = load_checkpoint(options.teacher) if options.teacher else None
    with _staged(out) as stage:
        _build(stage, options, student, teacher, examples)
        load_bundle(stage)  # what a service would refuse is not put in place either
    return load_bundle(out)


def _build(
    stage: Path,
    options: ExportOptions,
    student: Checkpoint,
    teacher: Checkpoint | None,
    examples: Sequence[QAExample],
) -> None:
    fp32, int8 = stage / FP32_MODEL, stage / INT8_MODEL
    logger.info("converting %s to ONNX", student.path)
    convert(student.model, fp32)
    student.model.config.save_pretrained(stage)
    student.tokenizer.save_pretrained(stage, legacy_format=False)  # tokenizer.json alone, no second vocabulary

    task, run = student.task(), load_graph(fp32, "fp32")
    inputs = parity_inputs(task, examples, options.seed)
    difference = max_logit_difference(run, torch_run(student.model), inputs)
    check("the largest logit difference of fp32 ONNX to PyTorch", difference, MAX_LOGIT_DIFFERENCE)
    student_fp32 = _measure("student, fp32", run, task, examples)

    quantization, student_int8, drop = None, None, None
    if options.int8:
        logger.info("quantizing to int8")
        quantization = quantize(fp32, int8, reduce_range=options.reduce_range, keep_float=options.keep_float)
        run = load_graph(int8, "int8")
        student_int8 = _measure("student, int8", run, task, examples)
        drop = round(student_fp32["f1"] - student_int8["f1"], 3)
        check("the loss of int8 in points of F1 on dev", drop, options.max_metric_drop)
        if not options.keep_fp32:
            fp32.unlink()

    manifest = Manifest(
        schema_version=1,
        task="qa",
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
            teacher=_measure("teacher", torch_run(teacher.model), teacher.task(), examples) if teacher else None,
            student_fp32=student_fp32,
            student_int8=student_int8,
        ),
        checks=Checks(parity_inputs=len(inputs), max_logit_difference=difference, metric_drop=drop),
        golden=golden_answers(run, task),
        files=_file_records(stage),
    )
    card = model_card(manifest, abstains=task.no_answer_threshold is not None, directory=str(options.out))
    (stage / "README.md").write_text(card, encoding="utf-8")
    manifest = manifest.model_copy(update={"files": _file_records(stage)})
    (stage / MANIFEST).write_text(manifest.model_dump_json(indent=2) + "\n", encoding="utf-8")


def _measure(name: str, run: Run, task: QuestionAnswering, examples: Sequence[QAExample]) -> dict[str, float]:
    metrics = evaluate_qa(run, task, tqdm(examples, desc=name, unit="question"))
    return {key: round(value, 3) for key, value in metrics.items()}


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
