"""Constants as such: what the exporter wrote as nodes that compute nothing."""

import onnx
from onnx import numpy_helper

from export.graph import Graph, attribute


def fold_constants(graph: Graph) -> bool:
    """Constant nodes, and Identity of a constant, become constants of the graph."""
    changed = False
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
        changed = True
    return changed
