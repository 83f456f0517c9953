"""Times stock optimum exports after their rewrites beside our own exports of the same weights, in turns.

From the root of the repository: python -m docs.log.scripts.stock_exports
"""

import sys
import time
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

import numpy as np
import onnx
import onnxruntime
import torch
from optimum.exporters.onnx import onnx_export_from_model
from transformers import AutoConfig, AutoModelForQuestionAnswering, PreTrainedModel

from export.graph.convert import convert
from export.graph.quantize import quantize
from export.graph.rewrites.apply import rewrite

ROUNDS = 20
LENGTHS = (16, 64, 128, 384)


def random_model(kind: str, layers: int, attention: str) -> PreTrainedModel:
    sizes = {"vocab_size": 30522, "hidden_size": 384, "num_attention_heads": 12, "num_hidden_layers": layers}
    sizes["hidden_dim" if kind == "distilbert" else "intermediate_size"] = 1536
    torch.manual_seed(0)
    config = AutoConfig.for_model(kind, **sizes)
    model: PreTrainedModel = AutoModelForQuestionAnswering.from_config(config, attn_implementation=attention).eval()
    return model


def sessions(kind: str, layers: int, directory: Path) -> dict[str, onnxruntime.InferenceSession]:
    """Open three int8 graphs: ours, optimum's after its rewrites, and optimum's as it was served without them."""
    convert(random_model(kind, layers, "eager"), "qa", directory / "own.onnx")
    onnx_export_from_model(
        random_model(kind, layers, "sdpa"), output=directory, task="question-answering", do_validation=False
    )
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    models = {}
    for name, file in (("own", "own.onnx"), ("stock", "model.onnx"), ("before", "model.onnx")):
        quantize(directory / file, directory / "int8.onnx")
        models[name] = onnx.load(directory / "int8.onnx")
        if name != "before":
            rewrite(models[name])
    are_equal = len({tuple(node.op_type for node in models[name].graph.node) for name in ("own", "stock")}) == 1
    sys.stdout.write(f"{kind}, {layers} layers of 384; the same operators in the same order: {are_equal}\n")
    return {
        name: onnxruntime.InferenceSession(
            model.SerializeToString(),
            options,
            providers=["CPUExecutionProvider"],
            disabled_optimizers=["SkipLayerNormFusion"] if name == "before" else [],
        )
        for name, model in models.items()
    }


def compare(opened: dict[str, onnxruntime.InferenceSession], length: int) -> None:
    ids = np.random.default_rng(0).integers(5, 30000, (1, length))
    batch = {"input_ids": ids, "attention_mask": np.ones_like(ids), "token_type_ids": np.zeros_like(ids)}
    times: dict[str, list[float]] = {name: [] for name in opened}
    for position in range(ROUNDS + 1):
        for name in sorted(opened, reverse=bool(position % 2)):
            feeds = {item.name: batch[item.name] for item in opened[name].get_inputs()}
            began = time.perf_counter()
            for _ in range(max(1, 256 // length)):
                opened[name].run(None, feeds)
            times[name].append(time.perf_counter() - began)
    ratios = {
        pair: median(first / second for first, second in zip(times[pair[0]][1:], times[pair[1]][1:], strict=True))
        for pair in (("stock", "own"), ("before", "stock"))
    }
    least = {name: min(values[1:]) for name, values in times.items()}
    for (first, second), ratio in ratios.items():
        text = (
            f"{length:5} tokens, {first} / {second}: {ratio:.3f}, of the least times {least[first] / least[second]:.3f}"
        )
        sys.stdout.write(f"{text}\n")


def main() -> None:
    for kind in ("bert", "distilbert"):
        for layers in (3, 6):
            with TemporaryDirectory() as directory:
                opened = sessions(kind, layers, Path(directory))
            for length in LENGTHS:
                compare(opened, length)


if __name__ == "__main__":
    main()
