"""Reads the weights of a bundle of ours (qa, similarity) back from its int8 graph, as a checkpoint to begin from.

From the root of the repository: python -m docs.log.scripts.bundle_weights bundles/qa-small runs/qa-small-student
With a seed after these, every weight moves by up to half a step of int8 and quantizes to the same byte again: a
stand-in for the float model that the bundle was made of.
"""

import shutil
import sys
from pathlib import Path

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from onnx import numpy_helper
from transformers import AutoTokenizer, DistilBertConfig, DistilBertForQuestionAnswering, DistilBertModel

EMBEDDINGS = ("word_embeddings", "position_embeddings")
PRODUCTS = ("attention.q_lin", "attention.k_lin", "attention.v_lin", "attention.out_lin", "ffn.lin1", "ffn.lin2")
Array = NDArray[np.float32]


def weights_of(
    graph: onnx.ModelProto, config: DistilBertConfig, noise: np.random.Generator | None = None
) -> dict[str, Array]:
    """Undo the scales of int8, and the two rewrites that change weights: scale_queries and mask_in_keys."""
    tensors = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.graph.initializer}
    products = sorted({name.split("_")[1] for name in tensors if name.startswith("onnx::MatMul_")}, key=int)
    width = config.dim // config.n_heads
    encoder = "distilbert." if any(name.startswith("distilbert.") for name in tensors) else ""

    def moved(steps: NDArray[np.floating]) -> NDArray[np.floating]:
        """Move within half a step, but for the largest, which make the scales."""
        if noise is None:
            return steps
        return np.where(np.abs(steps) < 127, steps + noise.uniform(-0.49, 0.49, steps.shape), steps)

    def product(number: str) -> Array:
        """Read the matrix of a product; its rows are its inputs."""
        prefix = f"onnx::MatMul_{number}"
        parts = {name.removeprefix(prefix): array for name, array in tensors.items() if name.startswith(prefix)}
        if "" in parts:
            return np.asarray(parts[""], np.float32)
        kinds = ("_quantized", "_zero_point", "_scale")
        weights, zeros, scales = (next(parts[name] for name in parts if name.startswith(kind)) for kind in kinds)
        return np.asarray(moved(weights.astype(np.float32) - zeros.astype(np.float32)) * scales, np.float32)

    def without_mask(array: Array) -> Array:
        """Take away the column that carries the mask in each head."""
        heads = array.reshape(*array.shape[:-1], config.n_heads, width + 1)
        return heads[..., :width].reshape(*array.shape[:-1], config.dim)

    starts = (f"{encoder}embeddings.", f"{encoder}transformer.", "qa_outputs.")
    weights = {name: array for name, array in tensors.items() if name.startswith(starts)}
    for name in EMBEDDINGS:
        key = f"{encoder}embeddings.{name}.weight"
        rows = moved(weights[f"{key}_int8"].astype(np.float32)) * weights[f"{key}_scale"]
        weights[key] = np.asarray(rows, np.float32)
    for layer in range(config.n_layers):
        prefix = f"{encoder}transformer.layer.{layer}."
        for name, number in zip(PRODUCTS, products[6 * layer : 6 * layer + 6], strict=True):
            matrix = product(number)
            if name in PRODUCTS[:2]:
                suffix = "_scaled_and_1" if name == PRODUCTS[0] else "_and_0"
                scale = np.float32(width**0.5) if name == PRODUCTS[0] else np.float32(1)
                matrix, bias = without_mask(matrix) * scale, weights[f"{prefix}{name}.bias{suffix}"]
                weights[f"{prefix}{name}.bias"] = without_mask(bias) * scale
            weights[f"{prefix}{name}.weight"] = matrix.T
    if encoder:
        weights["qa_outputs.weight"] = product(products[-1]).T
    return weights


def main(bundle: Path, out: Path, noise: np.random.Generator | None = None) -> None:
    config = DistilBertConfig.from_pretrained(bundle)
    kinds = {kind.__name__: kind for kind in (DistilBertForQuestionAnswering, DistilBertModel)}
    [name] = config.architectures or []
    model = kinds[name](config)
    weights = weights_of(onnx.load(bundle / "onnx" / "model_quantized.onnx"), config, noise)
    model.load_state_dict({name: torch.from_numpy(weights[name].copy()) for name in model.state_dict()})
    model.save_pretrained(out)
    AutoTokenizer.from_pretrained(bundle).save_pretrained(out)
    for file in (bundle / "modules.json", bundle / "sentence_bert_config.json", bundle / "1_Pooling" / "config.json"):
        if file.exists():
            (out / file.relative_to(bundle)).parent.mkdir(exist_ok=True)
            shutil.copy(file, out / file.relative_to(bundle))


if __name__ == "__main__":
    seeds = [np.random.default_rng(int(seed)) for seed in sys.argv[3:]]
    main(Path(sys.argv[1]), Path(sys.argv[2]), *seeds)
