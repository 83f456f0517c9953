"""Runs a piece of a graph, to find out what it computes."""

from collections.abc import Mapping

import onnx
import onnxruntime
from onnx import helper

from export.graph.graph import Array, Graph


def evaluate(graph: Graph, name: str, feeds: Mapping[str, Array]) -> Array | None:
    """Compute a value from others (or inputs) of the graph, which may lie anywhere before it.

    Returns: None if it needs more than these, or cannot be computed from values of these shapes.
    """
    if name in feeds:
        return feeds[name]
    piece = graph.before(name, feeds)
    if piece is None:
        return None
    nodes, constants, leaves = piece
    inputs = [
        helper.make_tensor_value_info(leaf, helper.np_dtype_to_tensor_dtype(feeds[leaf].dtype), feeds[leaf].shape)
        for leaf in leaves
    ]
    part = helper.make_graph(nodes, "piece", inputs, [onnx.ValueInfoProto(name=name)], constants)
    model = helper.make_model(part, opset_imports=graph.model.opset_import, ir_version=graph.model.ir_version)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4  # what cannot be run is no error here
    options.intra_op_num_threads = 1
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    try:
        session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
        (array,) = session.run(None, {leaf: feeds[leaf] for leaf in leaves})
    except Exception:  # onnxruntime's errors have no common root
        return None
    result: Array = array
    return result
