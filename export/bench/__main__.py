"""Measures graphs against each other: milliseconds of one run, batch 1, by length, in turns."""

import logging
import statistics
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated

from models.tasks.base import Features, Run, TaskName
from models.tasks.build import task_of_files
from models.tasks.directory.files import CONFIG, read_json
from models.tasks.directory.graph import Precision
from models.tasks.errors import needs_extra, run_command
from models.tasks.options import Flag, Options, read_options
from models.tasks.session import graph_outputs, onnx_run, open_graph

with needs_extra("python -m export.bench", "train"):
    import onnx
    from transformers import PreTrainedModel
    from transformers.utils import logging as transformers_logging

    from export.bench.stock import RANDOM_TASK, SHAPES, products_alone, random_encoder, stock
    from export.bench.timing import LENGTHS, measure
    from export.checkpoint import ExportError, load_finetuned
    from export.graph.convert import convert
    from export.graph.quantize import quantize
    from export.graph.rewrites.apply import disabled_optimizers, rewrite

Row = tuple[str, Callable[[Features], object]]


def run_of(graph: Path, threads: int, disabled_optimizers: Sequence[str] = ()) -> Run:
    """Open a graph and run it for all its outputs."""
    session = open_graph(graph, threads=threads, disabled_optimizers=disabled_optimizers)
    return onnx_run(session, graph_outputs(session))


def rows_of_model(model: PreTrainedModel, task: TaskName, directory: Path, threads: int) -> list[Row]:
    """Build the stock graph, ours, and only the products of ours."""
    fp32, int8 = directory / "fp32.onnx", directory / "int8.onnx"
    convert(model, task, fp32)
    quantize(fp32, int8)
    optimizers = rewrite_file(int8, "int8")
    return [
        ("optimum, dynamic int8", run_of(stock(model, task, directory / "stock"), threads)),
        ("halfdepth, int8", run_of(int8, threads, optimizers)),
        ("its int8 products alone", products_alone(int8, threads)),
    ]


def rewrite_file(path: Path, precision: Precision) -> tuple[str, ...]:
    """Rewrite a graph in place; returns what to leave out when it is opened."""
    model = onnx.load(path)
    rewrites = rewrite(model)
    onnx.save(model, path)
    return disabled_optimizers(rewrites, precision)


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


@dataclass(frozen=True, slots=True, kw_only=True)
class GraphBenchOptions(Options):
    """Measure graphs against each other: milliseconds of one run, batch 1, by length, measured in turns.

    Without a model it measures random encoders of two shapes: optimum's export with dynamic int8, this project's, and
    only the int8 products of the latter.
    """

    models: Annotated[
        tuple[Path, ...],
        Flag(
            "an ONNX file, measured as it is, or a checkpoint, measured as the random encoders are",
            metavar="MODEL",
            positional=True,
        ),
    ] = ()
    tokens: Annotated[tuple[int, ...], Flag("input lengths, tokens", above=0)] = LENGTHS
    threads: Annotated[tuple[int, ...], Flag("numbers of threads to run each graph with", above=0)] = (1, 2)
    rounds: Annotated[int, Flag("runs of each graph at each length", above=0)] = 50


def main(argv: Sequence[str] | None = None, *, prog: str = "python -m export.bench") -> int:
    return run_command(prog, run, prog, argv)


def run(prog: str, argv: Sequence[str] | None) -> None:
    """Print a table for each count of threads. Raises: ExportError, BundleError."""
    options = read_options(GraphBenchOptions, prog, argv)
    transformers_logging.set_verbosity_error()
    logging.getLogger("optimum").setLevel(logging.ERROR)
    files = [path for path in options.models if not path.is_dir()]
    for path in files:
        if not path.is_file():
            raise ExportError(f"{path} is neither an ONNX file nor a checkpoint; give one of them")
    models = load_models([path for path in options.models if path.is_dir()])
    if not options.models:
        models = [(name, random_encoder(name), RANDOM_TASK) for name in SHAPES]
    for threads in options.threads:
        ending = f"{threads} thread(s), median milliseconds of {options.rounds} runs"
        if files:
            graphs: list[Row] = [(str(path), run_of(path, threads)) for path in files]
            sys.stdout.write(table(ending, graphs, options.tokens, options.rounds))
        for name, model, task in models:
            with TemporaryDirectory() as directory:
                rows = rows_of_model(model, task, Path(directory), threads)
                sys.stdout.write(table(f"{name}, {ending}", rows, options.tokens, options.rounds))


def load_models(paths: Sequence[Path]) -> list[tuple[str, PreTrainedModel, TaskName]]:
    """Load checkpoints, each with its path and its task. Raises: ExportError, BundleError."""
    models = []
    for path in paths:
        task = task_of_files(path, read_json(path / CONFIG))
        models.append((str(path), load_finetuned(path, task).model, task))
    return models


if __name__ == "__main__":
    sys.exit(main())
