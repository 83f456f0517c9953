"""Runs `halfdepth export`: write a bundle out of a teacher and data, a student, or ONNX."""

import logging
import shlex
import sys
from collections.abc import Sequence
from dataclasses import replace

from models.tasks.errors import needs_extra, run_command
from models.tasks.options import read_options

with needs_extra("halfdepth export", "export"):
    import torch
    from transformers.utils import logging as transformers_logging

    from export.chain import describe, plan
    from export.checkpoint import ExportError
    from export.options import ExportOptions
    from export.pipeline import export
    from export.report import chart, report
    from export.verify import VerifyError

logger = logging.getLogger("export")


def main(argv: Sequence[str] | None = None, *, prog: str = "python -m export") -> int:
    """Return the exit status: 0 written, 1 a check failed, 2 the arguments cannot be used."""
    return run_command(prog, run, prog, sys.argv[1:] if argv is None else argv)


def run(prog: str, argv: Sequence[str]) -> None:
    """Go through the stages and print the report.

    Raises: UsageError, ExportError, DataError, BundleError, InputTooLongError, VerifyError; whatever `finetune` raises.
    """
    options = read_options(ExportOptions, prog, argv)
    logging.basicConfig(format="%(message)s")
    logger.setLevel(logging.INFO)
    transformers_logging.set_verbosity_error()  # its advice on loading is for training
    transformers_logging.disable_progress_bar()  # of loading weights: an instant
    command = shlex.join(["python", "-m", "export", *(flag for flag in argv if flag != "--dry-run")])
    options = replace(options, command=command)
    chain = plan(options) if options.train else None
    if options.dry_run:
        sys.stdout.write(describe(chain.stages if chain else (), command))
        return
    if chain:
        chain.check(options)
        chain.run(logger.info)
        options = chain.export_options(options)
    torch.set_num_threads(1)  # as the graphs run: two threads crawl on a machine that trains as well
    try:
        exported = export(options)
    except VerifyError as error:
        raise VerifyError(f"{error}; nothing was written") from error
    sys.stdout.write(report(exported.bundle, exported.latencies))
    if options.chart:
        try:
            chart(exported.bundle, exported.latencies, options.chart)
        except OSError as error:
            raise ExportError(f"the bundle was written, but the chart (--chart) could not be: {error}") from error


if __name__ == "__main__":
    sys.exit(main())
