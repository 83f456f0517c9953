"""Reads the weights of a bundle of ours back from its int8 graph."""

from collections.abc import Mapping

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from onnx import numpy_helper
from transformers import AutoConfig, PreTrainedModel

from export.checkpoint import ExportError
from models.finetune.recipes import RECIPES
from models.tasks.bundle import Bundle

Array = NDArray[np.float32]
EMBEDDINGS = ("word_embeddings", "position_embeddings")
QUERIES, KEYS = "q_lin", "k_lin"
KIND = "distilbert"


def read_model(bundle: Bundle, noise: np.random.Generator | None = None) -> PreTrainedModel:
    """Make the model that a bundle's int8 graph came from, but for what int8 has rounded off.

    `noise`: moves every weight within half a step of int8, as what was rounded off might.

    Raises: ExportError if the graph is not of an int8 DistilBERT that `halfdepth export` wrote.
    """
    config = AutoConfig.from_pretrained(bundle.path)
    if config.model_type != KIND:
        raise ExportError(f"{bundle.path} is of the kind {config.model_type}; only {KIND} is read back from int8")
    model: PreTrainedModel = RECIPES[bundle.task].model_class.from_config(config).eval()
    try:
        weights = weights_of(onnx.load(bundle.model_path), heads=config.n_heads, noise=noise)
        model.load_state_dict({name: torch.from_numpy(weights[name].copy()) for name in model.state_dict()})
    except (KeyError, ValueError, StopIteration, RuntimeError) as error:
        raise ExportError(f"{bundle.path} is not an int8 bundle that halfdepth export has rewritten") from error
    return model


def weights_of(model: onnx.ModelProto, *, heads: int, noise: np.random.Generator | None = None) -> dict[str, Array]:
    """Undo the scales of int8, and the two rewrites that change weights: scale_queries and mask_in_keys."""
    tensors = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    weights = {name: np.asarray(array) for name, array in tensors.items() if name.endswith((".weight", ".bias"))}
    for name in [name for name in tensors if name.endswith(tuple(f"{part}.weight_int8" for part in EMBEDDINGS))]:
        key = name.removesuffix("_int8")
        rows = _moved(tensors[name].astype(np.float32), noise) * tensors[f"{key}_scale"]
        weights[key] = np.asarray(rows, np.float32)
    for node in model.graph.node:
        if node.op_type not in ("MatMulInteger", "MatMul") or node.input[1] not in tensors:
            continue
        # /distilbert/transformer/layer.0/attention/q_lin/MatMul_quant
        module = node.name.strip("/").rpartition("/")[0].replace("/", ".")
        matrix = _product(tensors, node.input[1], noise)
        source, outliers, _ = node.input[0].partition("_without_outliers")
        if outliers:  # of which the weights took over what this divides by
            matrix = matrix * tensors[f"{source}_outliers"][:, None]
        if module.endswith((QUERIES, KEYS)):
            is_query = module.endswith(QUERIES)
            width = (matrix.shape[1] - heads) // heads
            scale = np.float32(width**0.5 if is_query else 1)
            bias = tensors[f"{module}.bias" + ("_scaled_and_1" if is_query else "_and_0")]
            weights[f"{module}.bias"] = _without_mask(bias, heads) * scale
            matrix = _without_mask(matrix, heads) * scale
        weights[f"{module}.weight"] = matrix.T
    return weights


def _product(tensors: Mapping[str, Array], name: str, noise: np.random.Generator | None) -> Array:
    """Read the matrix of a product; its rows are its inputs."""
    prefix, quantized, _ = name.partition("_quantized")
    if not quantized:
        return np.asarray(tensors[name], np.float32)
    weights = tensors[name].astype(np.float32)
    zeros, scales = (
        next(tensors[other] for other in tensors if other.startswith(f"{prefix}{kind}"))
        for kind in ("_zero_point", "_scale")
    )
    return np.asarray(_moved(weights - zeros.astype(np.float32), noise) * scales, np.float32)


def _moved(steps: Array, noise: np.random.Generator | None) -> NDArray[np.floating]:
    """Move within half a step, but for the largest, which make the scales."""
    if noise is None:
        return steps
    return np.where(np.abs(steps) < 127, steps + noise.uniform(-0.49, 0.49, steps.shape), steps)


def _without_mask(array: Array, heads: int) -> Array:
    """Take away the column that carries the mask in each head."""
    parts = array.reshape(*array.shape[:-1], heads, -1)
    return parts[..., :-1].reshape(*array.shape[:-1], -1)
