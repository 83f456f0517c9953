"""Writes bundles for qa of BERT-base's and DistilBERT's shape, fp32, with random weights, as our export converts them.

From the root of the repository: python -m docs.log.scripts.base_shapes DIR
then: halfdepth loadtest device --bundles DIR/bert-base DIR/distilbert-base bundles/qa bundles/qa-small
"""

import shutil
import sys
from pathlib import Path

import onnx
import torch
from transformers import AutoConfig, AutoModelForQuestionAnswering

from export.graph.convert import convert
from export.graph.rewrites.apply import rewrite

TOKENIZER = Path("bundles/qa")  # BERT's vocabulary of 30522
KINDS = {"bert-base": "bert", "distilbert-base": "distilbert"}


def write(kind: str, directory: Path) -> None:
    """Write a model of the published shape: transformers' defaults are those of the base models."""
    (directory / "onnx").mkdir(parents=True, exist_ok=True)
    torch.manual_seed(0)
    config = AutoConfig.for_model(kind)
    model = AutoModelForQuestionAnswering.from_config(config, attn_implementation="eager").eval()
    model.config.architectures = [type(model).__name__]
    model.config.save_pretrained(directory)
    path = directory / "onnx" / "model.onnx"
    convert(model, "qa", path)
    graph = onnx.load(path)
    rewrites = rewrite(graph)
    onnx.save(graph, path)
    for name in ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json"):
        shutil.copy(TOKENIZER / name, directory)
    parameters = sum(weights.numel() for weights in model.parameters())
    megabytes = path.stat().st_size / 1e6
    sys.stdout.write(f"{directory}: {parameters / 1e6:.1f}M parameters, {megabytes:.0f} MB, {', '.join(rewrites)}\n")


def main() -> None:
    if len(sys.argv) != 2:
        sys.exit("usage: python -m docs.log.scripts.base_shapes DIR")
    for name, kind in KINDS.items():
        write(kind, Path(sys.argv[1]) / name)


if __name__ == "__main__":
    main()
