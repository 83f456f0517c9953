"""Builds what our graphs are compared with: optimum's int8 export, and bare int8 products."""

import logging
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper
from onnxruntime.quantization import QuantType, quantize_dynamic
from optimum.exporters.onnx import onnx_export_from_model
from transformers import DistilBertConfig, PreTrainedModel

from models.finetune.recipes import RECIPES
from models.tasks.base import Features, TaskName
from models.tasks.session import open_graph

# Layers, hidden size, heads, inner size. Speed does not depend on the weights.
SHAPES = {"3 layers of 384": (3, 384, 12, 1536), "DistilBERT-base": (6, 768, 12, 3072)}
RANDOM_TASK = next(iter(RECIPES))  # the task of a random encoder; its head takes next to no time


def random_encoder(name: str) -> PreTrainedModel:
    """Make an encoder of one of the shapes, with random weights and the head of `RANDOM_TASK`."""
    layers, hidden, heads, inner = SHAPES[name]
    config = DistilBertConfig(n_layers=layers, dim=hidden, n_heads=heads, hidden_dim=inner, attn_implementation="eager")
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model: PreTrainedModel = RECIPES[RANDOM_TASK].student_class(config).eval()
    return model


def stock(model: PreTrainedModel, task: TaskName, directory: Path) -> Path:
    """Take optimum's export as it stands, then onnxruntime's dynamic int8 with its best settings.

    These are: per channel, and no products of activations.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", torch.jit.TracerWarning)  # type: ignore[attr-defined]  # its own name hides it
        warnings.simplefilter("ignore", DeprecationWarning)  # of torch's older exporter, which is optimum's choice
        onnx_export_from_model(model, output=directory, task=RECIPES[task].optimum_task, do_validation=False)
    logging.getLogger().addFilter(_without_advice)
    try:
        quantize_dynamic(
            directory / "model.onnx",
            directory / "stock.onnx",
            op_types_to_quantize=["MatMul", "Attention", "Gather"],
            per_channel=True,
            weight_type=QuantType.QInt8,
            extra_options={"MatMulConstBOnly": True},
        )
    finally:
        logging.getLogger().removeFilter(_without_advice)
    return directory / "stock.onnx"


def products_alone(graph: Path, threads: int) -> Callable[[Features], object]:
    """Run the int8 products of a graph on ready-made bytes: the time that no better graph can go below."""
    weights = _int8_weights(onnx.load(graph).graph)
    widths = sorted({weight.shape[0] for weight in weights})
    nodes = [
        helper.make_node("MatMulInteger", [f"x_{weight.shape[0]}", f"weight_{number}"], [f"y_{number}"])
        for number, weight in enumerate(weights)
    ]
    inputs = [helper.make_tensor_value_info(f"x_{width}", TensorProto.UINT8, ["tokens", width]) for width in widths]
    outputs = [helper.make_tensor_value_info(f"y_{number}", TensorProto.INT32, None) for number in range(len(weights))]
    constants = [numpy_helper.from_array(weight, f"weight_{number}") for number, weight in enumerate(weights)]
    model = helper.make_model(
        helper.make_graph(nodes, "products", inputs, outputs, constants),
        opset_imports=[helper.make_opsetid("", 18)],
        ir_version=8,
    )
    products = graph.with_name("products.onnx")
    onnx.save(model, products)
    session = open_graph(products, threads=threads)
    draw = np.random.default_rng(0)
    feeds: dict[int, dict[str, np.ndarray]] = {}

    def run(features: Features) -> object:
        tokens = len(features)
        if tokens not in feeds:
            feeds[tokens] = {f"x_{width}": draw.integers(0, 256, (tokens, width), np.uint8) for width in widths}
        return session.run(None, feeds[tokens])

    return run


def _int8_weights(graph: onnx.GraphProto) -> list[np.ndarray]:
    tensors = {tensor.name: tensor for tensor in graph.initializer}
    return [numpy_helper.to_array(tensors[node.input[1]]) for node in graph.node if node.op_type == "MatMulInteger"]


def _without_advice(record: logging.LogRecord) -> bool:
    """Drop the quantizer's advice of a pre-processing that changes nothing here."""
    return "pre-processing" not in record.getMessage()
