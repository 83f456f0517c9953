"""Reads the weights of a bundle of ours (qa, similarity) back from its int8 graph, as a checkpoint with its record.

From the root of the repository: python -m docs.log.scripts.bundle_weights bundles/qa-small runs/qa-small-student
With a seed after these, every weight moves by up to half a step of int8 and quantizes to the same byte again: a
stand-in for the float model that the bundle was made of.
"""

import shutil
import sys
from pathlib import Path

import numpy as np
from transformers import AutoTokenizer

from export.bench.weights import read_model
from models.provenance import Teacher, TrainingData, write_provenance
from models.tasks.bundle import load_bundle

OF_EMBEDDERS = ("modules.json", "sentence_bert_config.json", "1_Pooling/config.json")


def main(path: Path, out: Path, noise: np.random.Generator | None = None) -> None:
    bundle = load_bundle(path)
    read_model(bundle, noise).save_pretrained(out)
    AutoTokenizer.from_pretrained(path).save_pretrained(out)
    for name in OF_EMBEDDERS:
        if (path / name).exists():
            (out / name).parent.mkdir(exist_ok=True)
            shutil.copy(path / name, out / name)
    if bundle.manifest and (training := bundle.manifest.student.training):
        write_provenance(
            out,
            command=training.command,
            seed=training.seed,
            sources=[training.source],
            data=[
                TrainingData(name=data.name, sha256=data.sha256, bytes=data.bytes)
                for data in bundle.manifest.data
                if data.used_for == "train"
            ],
            metrics={},
            seconds=training.seconds,
            teachers=[Teacher(**teacher.model_dump()) for teacher in training.teachers],
        )


if __name__ == "__main__":
    seeds = [np.random.default_rng(int(seed)) for seed in sys.argv[3:]]
    main(Path(sys.argv[1]), Path(sys.argv[2]), *seeds)
