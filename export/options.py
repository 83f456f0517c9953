"""The flags of `python -m export`."""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import get_args

from models.tasks.build import SPECS
from models.tasks.texts import OnOverflow

DESCRIPTION = """\
Write a bundle: rewrites, int8, checks, manifest, model card. It begins from a teacher and training data (every stage
from fine-tuning to the bundle; a killed run goes on where it stopped), from a finished student, or from ONNX.
"""


def parse_arguments(argv: Sequence[str]) -> argparse.Namespace:
    """Ends the process with status 2 on a wrong one."""
    parser = argparse.ArgumentParser(
        prog="python -m export", description=DESCRIPTION, formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.add_argument("--task", choices=tuple(SPECS), required=True)
    parser.add_argument("--dev", type=Path, required=True, metavar="FILE", help="labelled data; every check runs on it")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="the bundle; replaced if it passes")
    parser.add_argument("--name", help="the bundle's name; without it, that of what it is made from")
    parser.add_argument("--chart", type=Path, metavar="PNG", help="draw the report of the end: latency, metric, size")
    parser.add_argument("--dry-run", action="store_true", help="print what would be done, and do nothing")
    _add_origin(parser.add_argument_group("what it begins with"))
    _add_graph(parser.add_argument_group("the graph"))
    _add_checks(parser.add_argument_group("the checks"))
    arguments = parser.parse_args(argv)
    begins = [name for name in ("student", "from_onnx", "train") if getattr(arguments, name)]
    if len(begins) != 1:
        parser.error("give exactly one of --train (with --teacher), --student and --from-onnx")
    if arguments.train and not arguments.teacher:
        parser.error("--train needs --teacher: the model to learn from")
    chart = arguments.chart  # which is drawn after hours of training
    if chart and (chart.is_dir() or not chart.parent.is_dir()):
        parser.error(f"--chart {chart}: give a file in a directory that exists")
    return arguments


def _add_origin(origin: argparse._ArgumentGroup) -> None:
    origin.add_argument(
        "--teacher",
        metavar="DIR_OR_NAME",
        help="with --train, a checkpoint for the task or an encoder that is fine-tuned first; with --student, its "
        "teacher's checkpoint, measured beside it",
    )
    origin.add_argument("--train", type=Path, nargs="+", metavar="FILE", help="training data, as of models.finetune")
    origin.add_argument("--layers", default="3", help="of the student: a count, or a list of the teacher's")
    origin.add_argument("--student", type=Path, metavar="DIR", help="a finished student's checkpoint")
    origin.add_argument(
        "--from-onnx", type=Path, metavar="DIR", help="a directory with ONNX in it: a bundle's own, or somebody else's"
    )
    origin.add_argument("--work", type=Path, metavar="DIR", help="teacher and student; without it, runs/NAME-OF-OUT")
    for model in ("teacher", "student"):
        origin.add_argument(
            f"--{model}-arguments", default="", metavar="FLAGS", help="more flags of models.finetune, in one string"
        )


def _add_graph(graph: argparse._ArgumentGroup) -> None:
    switch = argparse.BooleanOptionalAction
    graph.add_argument("--int8", action=switch, default=True, help="quantize the weights")
    graph.add_argument("--rewrite", action=switch, default=True, help="rewrite the graph for batch size 1")
    graph.add_argument("--keep-fp32", action="store_true", help="leave the fp32 graph in the bundle beside int8")
    graph.add_argument("--reduce-range", action="store_true", help="7-bit weights, for CPUs without VNNI")
    graph.add_argument(
        "--keep-float",
        nargs="+",
        default=[],
        metavar="NAME",
        help="products to leave in float, by parts of their names",
    )


def _add_checks(checks: argparse._ArgumentGroup) -> None:
    checks.add_argument(
        "--max-metric-drop",
        type=float,
        default=0.5,
        metavar="POINTS",
        help="what int8 may lose of F1 (qa), accuracy (classify) or Spearman's correlation (similarity), of 100 points",
    )
    checks.add_argument(
        "--on-overflow", choices=get_args(OnOverflow), default="truncate", help="of texts to classify that are too long"
    )
    checks.add_argument("--seed", type=int, default=0, help="chooses the inputs of the logit parity check")
