"""Writes shapes that never change as constants: no run needs to compute them."""

import onnx
from onnx import numpy_helper

from export.graph.graph import Graph, attribute
from export.graph.rewrites.attention import find_attention


def fix_shapes(graph: Graph) -> bool:
    """Split and join heads by constant shapes (0 keeps a dimension); lengths come only from `input_ids`."""
    has_changed = False
    for attention in find_attention(graph):
        if graph.is_constant(attention.join.input[1]):
            continue
        for operand in (attention.query, attention.key, attention.value):
            width = operand.linear.width(graph) // attention.heads
            operand.split.input[1] = graph.integers(0, 0, attention.heads, width)
        hidden = attention.value.linear.width(graph)
        attention.join.input[1] = graph.integers(0, 0, hidden)
        has_changed = True
    return has_changed


def fold_constants(graph: Graph) -> bool:
    """Make constants of the graph of Constant nodes and of Identity of a constant."""
    has_changed = False
    for node in list(graph.nodes):
        if node.op_type == "Constant":
            tensor = attribute(node, "value")
            if not isinstance(tensor, onnx.TensorProto):
                continue
            graph.add_constant(node.output[0], numpy_helper.to_array(tensor))
        elif node.op_type == "Identity" and graph.is_constant(node.input[0]):
            graph.constant_like(node.output[0], node.input[0])
        else:
            continue
        graph.remove(node)
        has_changed = True
    return has_changed
