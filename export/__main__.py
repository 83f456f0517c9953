"""Write a bundle out of a fine-tuned student, or of ONNX: rewrites, int8, checks, manifest, model card."""

import argparse
import logging
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import get_args

import torch
from transformers.utils import logging as transformers_logging

from export.checkpoint import ExportError
from export.pipeline import ExportOptions, export
from export.report import report
from export.verify import VerifyError
from models.data import DataError
from models.tasks.base import InputTooLongError
from models.tasks.bundle import BundleError, TaskName
from models.tasks.texts import OnOverflow


def parse_arguments(argv: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m export", description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.add_argument("--task", choices=get_args(TaskName), required=True)
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--student", type=Path, metavar="DIR", help="the checkpoint to export")
    source.add_argument(
        "--from-onnx", type=Path, metavar="DIR", help="a directory with ONNX in it: a bundle's own, or somebody else's"
    )
    parser.add_argument("--teacher", type=Path, metavar="DIR", help="its teacher's checkpoint, measured beside it")
    parser.add_argument("--dev", type=Path, required=True, metavar="FILE", help="labelled data; every check runs on it")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="the bundle; replaced if it passes")
    parser.add_argument("--name", help="the bundle's name; without it, the student's directory name")
    parser.add_argument("--int8", action=argparse.BooleanOptionalAction, default=True, help="quantize the weights")
    parser.add_argument(
        "--rewrite", action=argparse.BooleanOptionalAction, default=True, help="rewrite the graph for batch size 1"
    )
    parser.add_argument("--keep-fp32", action="store_true", help="leave the fp32 graph in the bundle beside int8")
    parser.add_argument("--reduce-range", action="store_true", help="7-bit weights, for CPUs without VNNI")
    parser.add_argument(
        "--keep-float",
        nargs="+",
        default=[],
        metavar="NAME",
        help="products to leave in float, by parts of their names",
    )
    parser.add_argument(
        "--max-metric-drop",
        type=float,
        default=0.5,
        metavar="POINTS",
        help="what int8 may lose of F1 (qa), accuracy (classify) or Spearman's correlation (similarity), of 100 points",
    )
    parser.add_argument(
        "--on-overflow", choices=get_args(OnOverflow), default="truncate", help="of texts to classify that are too long"
    )
    parser.add_argument("--seed", type=int, default=0, help="chooses the inputs of the logit parity check")
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> int:
    """Returns: exit status, 0 written, 1 a check failed, 2 the arguments cannot be used."""
    given = sys.argv[1:] if argv is None else list(argv)
    arguments = vars(parse_arguments(given))
    logging.basicConfig(format="%(message)s")
    logging.getLogger("export").setLevel(logging.INFO)
    torch.set_num_threads(1)  # as the graphs run: two threads crawl on a machine that trains as well
    transformers_logging.set_verbosity_error()  # its advice on loading is for training
    try:
        exported = export(ExportOptions(**arguments, command=shlex.join(["python", "-m", "export", *given])))
    except (ExportError, DataError, BundleError, InputTooLongError) as error:
        sys.stderr.write(f"python -m export: {error}\n")
        return 2
    except VerifyError as error:
        sys.stderr.write(f"python -m export: {error}; nothing was written\n")
        return 1
    sys.stdout.write(report(exported.bundle, exported.latencies))
    return 0


if __name__ == "__main__":
    sys.exit(main())
