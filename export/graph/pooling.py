"""Pools the mean inside the graph, so that every client of a bundle gets the same vector."""

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from models.tasks.similarity import POOLED, STATES

SMALLEST_NORM = 1e-12  # as torch.nn.functional.normalize


def add_pooling(path: Path) -> None:
    """Add the output `sentence_embedding`: the mean of the states where the attention mask is 1, at unit length.

    Shapes: last_hidden_state (batch, seq_len, hidden_size) to (batch, hidden_size).
    Source: Reimers and Gurevych 2019, arXiv:1908.10084, section 3.
    """
    model = onnx.load(path)
    graph = model.graph
    states = next(output for output in graph.output if output.name == STATES).type.tensor_type.shape.dim
    constants = {"pool_last": np.array([2]), "pool_seq": np.array([1]), "pool_least": np.float32(SMALLEST_NORM)}
    graph.initializer.extend(numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items())
    graph.node.extend(
        [
            helper.make_node("Cast", ["attention_mask"], ["pool_mask"], "pool_cast", to=TensorProto.FLOAT),
            helper.make_node("Unsqueeze", ["pool_mask", "pool_last"], ["pool_weights"], "pool_unsqueeze"),
            helper.make_node("Mul", [STATES, "pool_weights"], ["pool_masked"], "pool_mul"),
            helper.make_node("ReduceSum", ["pool_masked", "pool_seq"], ["pool_sum"], "pool_sum", keepdims=0),
            # The sum has the direction of the mean, and unit length takes the rest away.
            helper.make_node("ReduceL2", ["pool_sum", "pool_seq"], ["pool_norm"], "pool_norm", keepdims=1),
            helper.make_node("Max", ["pool_norm", "pool_least"], ["pool_length"], "pool_length"),
            helper.make_node("Div", ["pool_sum", "pool_length"], [POOLED], "pool_div"),
        ]
    )
    shape = [states[0].dim_param, states[2].dim_value]
    graph.output.append(helper.make_tensor_value_info(POOLED, TensorProto.FLOAT, shape))
    onnx.checker.check_model(model)
    onnx.save(model, path)
