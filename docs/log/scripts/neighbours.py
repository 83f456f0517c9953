"""Tells which neighbours int8 keeps of a similarity checkpoint, with these products in float (parts of their names).

From the root of the repository:
python -m docs.log.scripts.neighbours runs/similarity-pairs $DATA/similarity/stsb_dev.tsv "" ffn/lin2 ffn
"""

import sys
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from numpy.typing import NDArray

from export.checkpoint import load_finetuned
from export.graph.convert import convert
from export.graph.quantize import quantize
from export.verify import parity_inputs
from models.devset import DevOptions, answers
from models.finetune.similarity import SimilarityDev
from models.predict import checkpoint_task
from models.tasks.base import Features, answerer
from models.tasks.session import onnx_run, open_graph
from models.tasks.similarity import POOLED, SentenceEmbedding, neighbour_overlap


def embed(graph: Path, task: SentenceEmbedding, dev: SimilarityDev) -> Sequence[NDArray[np.float32]]:
    session = open_graph(graph, threads=1, exact_products=True)
    return answers(answerer(task, onnx_run(session, task.output_names)), dev, name=graph.stem)


def prepare(checkpoint: Path, dev_file: Path, fp32: Path) -> tuple[SentenceEmbedding, SimilarityDev, list[Features]]:
    """Write the float graph. Returns: the task over it, the distinct sentences, and windows of them."""
    read = checkpoint_task(checkpoint, "similarity")
    assert isinstance(read, SentenceEmbedding)
    task = SentenceEmbedding(read.tokenizer, output_name=POOLED, preparation=read.preparation)
    dev = SimilarityDev(dev_file, DevOptions())
    windows = parity_inputs(task, dev.inputs, seed=0)
    dev.inputs = list(dict.fromkeys(dev.inputs))
    convert(load_finetuned(checkpoint, "similarity").model, "similarity", fp32, read.head)
    return task, dev, windows


def main(checkpoint: Path, dev_file: Path, *parts: str) -> None:
    with TemporaryDirectory() as scratch:
        fp32, int8 = Path(scratch, "fp32.onnx"), Path(scratch, "int8.onnx")
        task, dev, windows = prepare(checkpoint, dev_file, fp32)
        vectors = embed(fp32, task, dev)
        for part in parts:
            quantize(fp32, int8, keep_float=[part] if part else [], windows=windows)
            overlap = neighbour_overlap(vectors, embed(int8, task, dev))
            size = int8.stat().st_size / 1e6
            sys.stdout.write(f"{part or 'none'} in float: {overlap:.4f} of {len(vectors)} texts, {size:.1f} MB\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), *sys.argv[3:])
