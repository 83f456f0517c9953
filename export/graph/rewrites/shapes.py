"""Makes constants of what never changes."""

import onnx
from onnx import numpy_helper

from export.graph.graph import Graph, attribute


def fold_constants(graph: Graph) -> bool:
    """Make constants of the graph of Constant nodes and of Identity of a constant."""
    has_changed = False
    for node in list(graph.nodes):
        tensor = attribute(node, "value") if node.op_type == "Constant" else None
        if isinstance(tensor, onnx.TensorProto):
            graph.remove(node)
            graph.add_constant(node.output[0], numpy_helper.to_array(tensor))
        elif node.op_type == "Identity" and graph.is_constant(node.input[0]):
            graph.remove(node)
            graph.constant_like(node.output[0], node.input[0])
        else:
            continue
        has_changed = True
    return has_changed
