"""Tells what moving outliers does to a similarity checkpoint's int8: neighbours kept, and time, in turns.

From the root of the repository: python -m docs.log.scripts.outliers runs/similarity-pairs $DATA/similarity/stsb_dev.tsv
"""

import statistics
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter

import numpy as np
import onnx

from docs.log.scripts.neighbours import embed, prepare
from export.graph.quantize import quantize
from export.graph.rewrites.apply import rewrite
from models.tasks.base import Features
from models.tasks.session import onnx_run, open_graph
from models.tasks.similarity import neighbour_overlap

LENGTHS = (16, 32, 64, 128, 256)
RUNS = 150


def main(checkpoint: Path, dev_file: Path) -> None:
    with TemporaryDirectory() as scratch:
        fp32 = Path(scratch, "fp32.onnx")
        task, dev, windows = prepare(checkpoint, dev_file, fp32)
        vectors = embed(fp32, task, dev)
        runs = []
        for used in ([], windows):
            int8 = Path(scratch, f"int8-{bool(used)}.onnx")
            moved = quantize(fp32, int8, windows=used).smoothed_nodes
            model = onnx.load(int8)
            rewrites = rewrite(model)
            onnx.save(model, int8)
            overlap = neighbour_overlap(vectors, embed(int8, task, dev))
            size = int8.stat().st_size / 1e6
            sys.stdout.write(f"{len(moved)} products take outliers: {overlap:.4f}, {size:.2f} MB, {rewrites}\n")
            runs.append(onnx_run(open_graph(int8, threads=1), task.output_names))
    for length in LENGTHS:
        ids = np.random.default_rng(0).integers(1000, 20_000, length)
        times: list[list[float]] = [[], []]
        for _ in range(RUNS):
            for run, seconds in zip(runs, times, strict=True):
                start = perf_counter()
                run(Features(ids, np.zeros_like(ids)))
                seconds.append(perf_counter() - start)
        before, after = map(statistics.median, times)
        sys.stdout.write(f"{length} tokens: {1000 * before:.2f} and {1000 * after:.2f} ms, {after / before:.3f}\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
