"""Graphs against each other: milliseconds of one run, batch 1, by length, measured in turns."""

import argparse
import statistics
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter

import numpy as np
import onnxruntime

from export.checkpoint import ExportError, load_checkpoint
from export.convert import convert
from models.predict import onnx_run
from models.tasks.base import Features
from models.tasks.bundle import CONFIG, DISABLED_OPTIMIZERS, BundleError, read_json, task_from_config

WARM_UP = 5


def load(path: Path, threads: int, disabled: frozenset[str] = frozenset()) -> Callable[[Features], object]:
    """A graph, or a checkpoint that is converted on the way. Raises: ExportError, BundleError."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    with TemporaryDirectory() as directory:
        if path.is_dir():
            graph = Path(directory, "model.onnx")
            task = task_from_config(path / CONFIG, read_json(path / CONFIG))
            convert(load_checkpoint(path, task).model, task, graph)
        else:
            graph = path
        if not graph.is_file():
            raise ExportError(f"{path} is neither an ONNX file nor a checkpoint; give one of them")
        session = onnxruntime.InferenceSession(
            str(graph), options, providers=["CPUExecutionProvider"], disabled_optimizers=set(disabled)
        )
    return onnx_run(session, [output.name for output in session.get_outputs()])


def measure(runs: Sequence[Callable[[Features], object]], tokens: int, rounds: int) -> list[float]:
    """Median milliseconds of each, one run of each in every round, so that all meet the same machine."""
    ids = np.random.default_rng(0).integers(5, 100, tokens)  # words that any vocabulary has
    features = Features(ids, np.zeros_like(ids))
    times: list[list[float]] = [[] for _ in runs]
    for _ in range(rounds + WARM_UP):
        for run, own in zip(runs, times, strict=True):
            begun = perf_counter()
            run(features)
            own.append((perf_counter() - begun) * 1e3)
    return [statistics.median(own[WARM_UP:]) for own in times]


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m export.bench", description=__doc__)
    parser.add_argument("models", type=Path, nargs="+", metavar="MODEL", help="an ONNX file or a checkpoint")
    parser.add_argument("--tokens", type=int, nargs="+", default=[16, 32, 64, 128, 256, 384], help="input lengths")
    parser.add_argument("--threads", type=int, default=1, help="of a run (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=100, help="runs of each, for each length (default: %(default)s)")
    parser.add_argument("--stock", action="store_true", help="once more with all of onnxruntime's own fusions")
    arguments = parser.parse_args(argv)
    try:
        rows = [(str(path), load(path, arguments.threads, DISABLED_OPTIMIZERS["int8"])) for path in arguments.models]
        if arguments.stock:
            rows += [(f"{path}, all fusions", load(path, arguments.threads)) for path in arguments.models]
    except (ExportError, BundleError) as error:
        sys.stderr.write(f"python -m export.bench: {error}\n")
        return 2
    by_length = [measure([run for _, run in rows], tokens, arguments.rounds) for tokens in arguments.tokens]
    sys.stdout.write(f"{arguments.threads} thread(s), median milliseconds of {arguments.rounds} runs\n")
    sys.stdout.write("".join(f"{tokens:>9}" for tokens in arguments.tokens) + "  tokens\n")
    for row, (name, _) in enumerate(rows):
        sys.stdout.write("".join(f"{column[row]:9.3f}" for column in by_length) + f"  {name}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
