"""Writes LayerNormalization and Gelu in the form that onnxruntime has one kernel for."""

import math

import numpy as np
import onnx

from export.graph.graph import Array, Graph
from export.graph.probe import evaluate

LAYER_NORMALIZATION = 17  # the opset that has it
VALUES = np.linspace(-4, 4, 24, dtype=np.float32)


def plain_operators(graph: Graph) -> bool:
    """Join the nodes of a LayerNormalization, as opsets below 17 have them, and bring those of a Gelu into order."""
    has_changed = False
    for node in list(graph.nodes):
        if node.op_type == "Sqrt" and graph.opset >= LAYER_NORMALIZATION:
            has_changed |= _join_normalization(graph, node)
        elif node.op_type == "Erf":
            has_changed |= _order_gelu(graph, node)
    return has_changed


def _join_normalization(graph: Graph, root: onnx.NodeProto) -> bool:
    """Replace (x - mean) / sqrt(variance + epsilon) · weight + bias."""
    divided = _reader(graph, root.output[0], "Div")
    scaled = _reader(graph, divided.output[0], "Mul") if divided is not None else None
    moved = _reader(graph, scaled.output[0], "Add") if scaled is not None else None
    variance, centred = graph.producer(root.input[0]), graph.producer(divided.input[0]) if divided is not None else None
    if scaled is None or moved is None or variance is None or centred is None or centred.op_type != "Sub":
        return False
    epsilon, weight, bias = (_constant(graph, node) for node in (variance, scaled, moved))
    if epsilon is None or weight is None or bias is None or variance.op_type != "Add":
        return False
    states = np.stack([VALUES, VALUES[::-1] ** 2])[:, None, np.arange(graph.dimensions(weight)[-1]) % len(VALUES)]
    centred_states = states - states.mean(axis=-1, keepdims=True)
    deviation = np.sqrt((centred_states**2).mean(axis=-1, keepdims=True) + graph.constant(epsilon))
    expected = centred_states / deviation * graph.constant(weight) + graph.constant(bias)
    if not _is_close(evaluate(graph, moved.output[0], {centred.input[0]: states}), expected):
        return False
    graph.remove(moved)
    inputs = [centred.input[0], weight, bias]
    graph.add(
        "LayerNormalization", inputs, moved.output[0], axis=-1, epsilon=float(graph.constant(epsilon).reshape(()))
    )
    return True


def _order_gelu(graph: Graph, erf: onnx.NodeProto) -> bool:
    """Write 0.5 · (x · (1 + erf(x / √2))), whatever is multiplied first."""
    argument = graph.producer(erf.input[0])
    last = erf
    for _ in range(3):
        readers = graph.consumers(last.output[0])
        if len(readers) != 1 or readers[0].op_type not in ("Add", "Mul"):
            return False
        last = readers[0]
    if argument is None or argument.op_type not in ("Div", "Mul") or _constant(graph, last) is not None:
        return False  # of the last kind are those in the usual order
    states = next((name for name in argument.input if not graph.is_constant(name)), None)
    expected = np.array([value * (1 + math.erf(value / math.sqrt(2))) / 2 for value in VALUES.tolist()], np.float32)
    if states is None or not _is_close(evaluate(graph, last.output[0], {states: VALUES}), expected):
        return False
    name = last.output[0]
    graph.remove(last)
    one, half = (graph.add_constant(f"float32_{value:g}", np.float32(value)) for value in (1, 0.5))
    shifted = graph.add("Add", [erf.output[0], one], f"{name}_shifted")
    product = graph.add("Mul", [states, shifted], f"{name}_product")
    graph.add("Mul", [product, half], name)
    return True


def _reader(graph: Graph, name: str, kind: str) -> onnx.NodeProto | None:
    readers = graph.consumers(name)
    return readers[0] if len(readers) == 1 and readers[0].op_type == kind else None


def _constant(graph: Graph, node: onnx.NodeProto) -> str | None:
    return next((name for name in node.input if graph.is_constant(name)), None)


def _is_close(found: Array | None, expected: Array) -> bool:
    return found is not None and found.shape == expected.shape and np.allclose(found, expected, rtol=1e-5, atol=1e-6)
