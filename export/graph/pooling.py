"""Mean pooling inside the graph, so that every client of a bundle gets the same vector."""

import json
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from models.tasks.similarity import MODULES, POOLED, POOLING_CONFIG, SENTENCE_CONFIG

TOKENS = "last_hidden_state"
SMALLEST_NORM = 1e-12  # as torch.nn.functional.normalize


def add_pooling(path: Path) -> None:
    """Add the output `sentence_embedding`: the mean of the states where the attention mask is 1, at unit length.

    Shapes: last_hidden_state (batch, seq_len, hidden_size) to (batch, hidden_size).
    Source: Reimers and Gurevych 2019, arXiv:1908.10084, section 3.
    """
    model = onnx.load(path)
    graph = model.graph
    states = next(output for output in graph.output if output.name == TOKENS).type.tensor_type.shape.dim
    constants = {"pool_last": np.array([2]), "pool_seq": np.array([1]), "pool_least": np.float32(SMALLEST_NORM)}
    graph.initializer.extend(numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items())
    graph.node.extend(
        [
            helper.make_node("Cast", ["attention_mask"], ["pool_mask"], "pool_cast", to=TensorProto.FLOAT),
            helper.make_node("Unsqueeze", ["pool_mask", "pool_last"], ["pool_weights"], "pool_unsqueeze"),
            helper.make_node("Mul", [TOKENS, "pool_weights"], ["pool_masked"], "pool_mul"),
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


def write_sentence_configs(directory: Path, max_length: int, hidden_size: int) -> None:
    """`max_length`: tokens that the model reads of a text."""
    kinds = (("Transformer", ""), ("Pooling", "1_Pooling"), ("Normalize", "2_Normalize"))
    modules = [
        {"idx": index, "name": str(index), "path": path, "type": f"sentence_transformers.models.{kind}"}
        for index, (kind, path) in enumerate(kinds)
    ]
    pooling = {"word_embedding_dimension": hidden_size, "pooling_mode_mean_tokens": True}
    contents: dict[str, object] = {
        MODULES: modules,
        SENTENCE_CONFIG: {"max_seq_length": max_length, "do_lower_case": False},
        POOLING_CONFIG: pooling,
    }
    for name, content in contents.items():
        path = directory / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
