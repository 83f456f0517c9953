"""Times graphs against each other: milliseconds of one run, batch 1, by length, measured in turns.

Without a model it measures random encoders of two shapes: optimum's export with dynamic int8, this project's, and the
int8 products of the latter alone.
"""

import argparse
import logging
import statistics
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import onnx
from transformers import PreTrainedModel
from transformers.utils import logging as transformers_logging

from export.bench.stock import RANDOM_TASK, SHAPES, products_alone, random_encoder, stock
from export.bench.timing import LENGTHS, measure
from export.checkpoint import ExportError, load_finetuned
from export.graph.convert import convert
from export.graph.quantize import quantize
from export.graph.rewrites.apply import disabled_optimizers, rewrite
from models.tasks.base import Features, Precision, Run, TaskName
from models.tasks.build import task_of_config
from models.tasks.directory import CONFIG, BundleError, read_json
from models.tasks.session import graph_outputs, onnx_run, open_graph

Row = tuple[str, Callable[[Features], object]]


def run_of(graph: Path, threads: int, disabled: Sequence[str] = ()) -> Run:
    """Open a graph and run it for all its outputs."""
    session = open_graph(graph, threads=threads, disabled_optimizers=disabled)
    return onnx_run(session, graph_outputs(session))


def rows_of_model(model: PreTrainedModel, task: TaskName, directory: Path, threads: int) -> list[Row]:
    """Build the stock graph, ours, and the products of ours alone."""
    fp32, int8 = directory / "fp32.onnx", directory / "int8.onnx"
    convert(model, task, fp32)
    quantize(fp32, int8)
    disabled = rewrite_file(int8, "int8")
    return [
        ("optimum, dynamic int8", run_of(stock(model, task, directory / "stock"), threads)),
        ("halfdepth, int8", run_of(int8, threads, disabled)),
        ("its int8 products alone", products_alone(int8, threads)),
    ]


def rewrite_file(path: Path, precision: Precision) -> tuple[str, ...]:
    """Rewrite a graph in place; returns what to leave out when it is opened."""
    model = onnx.load(path)
    applied = rewrite(model)
    onnx.save(model, path)
    return disabled_optimizers(applied, precision)


def table(title: str, rows: Sequence[Row], lengths: Sequence[int], rounds: int) -> str:
    """Write milliseconds, and against the first row: times as fast at each length, and the geometric mean."""
    by_length = [measure([run for _, run in rows], tokens, rounds) for tokens in lengths]
    lines = [title, "".join(f"{tokens:>9}" for tokens in lengths) + "     mean  tokens"]
    for row, (name, _) in enumerate(rows):
        lines.append("".join(f"{column[row]:9.3f}" for column in by_length) + f"{'':9}  {name}")
    for row, (name, _) in enumerate(rows[1:], start=1):
        ratios = [column[0] / column[row] for column in by_length]
        mean = statistics.geometric_mean(ratios)
        lines.append("".join(f"{ratio:8.2f}x" for ratio in [*ratios, mean]) + f"  {rows[0][0]} / {name}")
    return "\n".join(lines) + "\n"


def parse_arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m export.bench.__main__", description=__doc__)
    parser.add_argument(
        "models",
        type=Path,
        nargs="*",
        metavar="MODEL",
        help="an ONNX file, measured as it is, or a checkpoint, measured as above",
    )
    parser.add_argument("--tokens", type=int, nargs="+", default=list(LENGTHS), help="input lengths")
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2], help="of a run (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=50, help="runs of each, for each length (default: %(default)s)")
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> int:
    arguments = parse_arguments(argv)
    transformers_logging.set_verbosity_error()
    logging.getLogger("optimum").setLevel(logging.ERROR)
    files = [path for path in arguments.models if not path.is_dir()]
    try:
        for path in files:
            if not path.is_file():
                raise ExportError(f"{path} is neither an ONNX file nor a checkpoint; give one of them")
        models: list[tuple[str, PreTrainedModel, TaskName]] = []
        for path in arguments.models:
            if path.is_dir():
                task = task_of_config(path / CONFIG, read_json(path / CONFIG))
                models.append((str(path), load_finetuned(path, task).model, task))
        if not arguments.models:
            models = [(name, random_encoder(name), RANDOM_TASK) for name in SHAPES]
    except (ExportError, BundleError) as error:
        sys.stderr.write(f"python -m export.bench.__main__: {error}\n")
        return 2
    for threads in arguments.threads:
        ending = f"{threads} thread(s), median milliseconds of {arguments.rounds} runs"
        if files:
            graphs: list[Row] = [(str(path), run_of(path, threads)) for path in files]
            sys.stdout.write(table(ending, graphs, arguments.tokens, arguments.rounds))
        for name, model, task in models:
            with TemporaryDirectory() as directory:
                rows = rows_of_model(model, task, Path(directory), threads)
                sys.stdout.write(table(f"{name}, {ending}", rows, arguments.tokens, arguments.rounds))
    return 0


if __name__ == "__main__":
    sys.exit(main())
