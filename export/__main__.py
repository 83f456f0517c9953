"""Write a bundle out of a teacher and data, out of a finished student, or out of ONNX."""

import argparse
import logging
import shlex
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch
from transformers.utils import logging as transformers_logging

from export.chain import Chain, Stage, describe, plan, run
from export.checkpoint import ExportError
from export.options import parse_arguments
from export.pipeline import ExportOptions, export
from export.report import chart, report
from export.verify import VerifyError
from models.data import DataError
from models.tasks.base import InputTooLongError
from models.tasks.directory import BundleError

logger = logging.getLogger("export")


def options_of(arguments: argparse.Namespace, command: str) -> ExportOptions:
    teacher = Path(arguments.teacher) if arguments.teacher else None
    return ExportOptions(
        task=arguments.task,
        dev=arguments.dev,
        out=arguments.out,
        student=arguments.student,
        from_onnx=arguments.from_onnx,
        teacher=teacher,
        name=arguments.name,
        int8=arguments.int8,
        rewrite=arguments.rewrite,
        keep_fp32=arguments.keep_fp32,
        reduce_range=arguments.reduce_range,
        keep_float=arguments.keep_float,
        max_metric_drop=arguments.max_metric_drop,
        on_overflow=arguments.on_overflow,
        seed=arguments.seed,
        command=command,
    )


def chain_of(arguments: argparse.Namespace) -> Chain:
    return Chain(
        task=arguments.task,
        teacher=arguments.teacher,
        train=arguments.train,
        dev=arguments.dev,
        layers=arguments.layers,
        work=arguments.work or Path("runs", arguments.out.resolve().name),
        teacher_arguments=arguments.teacher_arguments,
        student_arguments=arguments.student_arguments,
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Returns: exit status, 0 written, 1 a check failed, 2 the arguments cannot be used."""
    given = sys.argv[1:] if argv is None else list(argv)
    arguments = parse_arguments(given)
    logging.basicConfig(format="%(message)s")
    logger.setLevel(logging.INFO)
    transformers_logging.set_verbosity_error()  # its advice on loading is for training
    command = shlex.join(["python", "-m", "export", *(flag for flag in given if flag != "--dry-run")])
    options = options_of(arguments, command)
    stages: list[Stage] = []
    if arguments.train:
        try:
            stages, teacher = plan(chain_of(arguments))
        except (ExportError, BundleError) as error:
            sys.stderr.write(f"python -m export: {error}\n")
            return 2
        measured = Path(teacher) if stages[0].name == "teacher" or Path(teacher).is_dir() else None
        options = replace(options, student=stages[-1].out, teacher=measured, name=options.name or options.out.name)
    if arguments.dry_run:
        sys.stdout.write(describe(stages, command))
        return 0
    if status := run(stages, logger.info):
        return status
    torch.set_num_threads(1)  # as the graphs run: two threads crawl on a machine that trains as well
    try:
        exported = export(options)
    except (ExportError, DataError, BundleError, InputTooLongError) as error:
        sys.stderr.write(f"python -m export: {error}\n")
        return 2
    except VerifyError as error:
        sys.stderr.write(f"python -m export: {error}; nothing was written\n")
        return 1
    sys.stdout.write(report(exported.bundle, exported.latencies))
    if arguments.chart:
        try:
            chart(exported.bundle, exported.latencies, arguments.chart)
        except OSError as error:
            sys.stderr.write(f"python -m export: the bundle is written, but not --chart: {error}\n")
            return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
