"""Times one layer's attention of 12 heads of 32 as three operators, and as the flash path of MultiHeadAttention.

python -m docs.log.scripts.attention_operators
"""

import statistics
import sys
from time import thread_time

import numpy as np
import onnxruntime as ort
from onnx import NodeProto, TensorProto, helper

HEADS, VALUES, KEYS = 12, 32, 33  # the key mask is the last of 33
LENGTHS = (64, 128, 256, 384)
ROUNDS = 60


def separate_operators() -> ort.InferenceSession:
    nodes = [
        helper.make_node("Transpose", ["query"], ["query_heads"], perm=[0, 2, 1, 3]),
        helper.make_node("Transpose", ["key"], ["key_heads"], perm=[0, 2, 3, 1]),
        helper.make_node("Transpose", ["value"], ["value_heads"], perm=[0, 2, 1, 3]),
        helper.make_node("MatMul", ["query_heads", "key_heads"], ["scores"]),
        helper.make_node("Softmax", ["scores"], ["probabilities"], axis=-1),
        helper.make_node("MatMul", ["probabilities", "value_heads"], ["output_heads"]),
        helper.make_node("Transpose", ["output_heads"], ["output"], perm=[0, 2, 1, 3]),
    ]
    return session(nodes, [1, None, HEADS, KEYS], [1, None, HEADS, VALUES])


def flash_attention() -> ort.InferenceSession:
    node = helper.make_node(
        "MultiHeadAttention",
        ["query", "key", "value"],
        ["output"],
        domain="com.microsoft",
        num_heads=HEADS,
        scale=1.0,
    )
    return session([node], [1, None, HEADS * KEYS], [1, None, HEADS * VALUES])


def session(nodes: list[NodeProto], key_shape: list[int | None], value_shape: list[int | None]) -> ort.InferenceSession:
    """Open a graph on one thread."""
    shapes = {"query": key_shape, "key": key_shape, "value": value_shape, "output": value_shape}
    tensors = {name: helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in shapes.items()}
    output = tensors.pop("output")
    graph = helper.make_graph(nodes, "attention", list(tensors.values()), [output])
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("com.microsoft", 1)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=8)
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    return ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])


def main() -> None:
    random = np.random.default_rng(0)
    separate, flash = separate_operators(), flash_attention()
    sys.stdout.write("tokens  separate ms  flash ms  times as fast\n")
    for tokens in LENGTHS:
        widths = {"query": KEYS, "key": KEYS, "value": VALUES}
        feed = {
            name: random.standard_normal((1, tokens, HEADS, width), dtype=np.float32) for name, width in widths.items()
        }
        flat_feed = {name: tensor.reshape(1, tokens, -1) for name, tensor in feed.items()}
        times: dict[str, list[float]] = {"separate": [], "flash": []}
        for _ in range(ROUNDS):
            for name, graph, inputs in (("separate", separate, feed), ("flash", flash, flat_feed)):
                began = thread_time()
                graph.run(None, inputs)
                times[name].append((thread_time() - began) * 1e3)
        separate_ms, flash_ms = (statistics.median(values) for values in times.values())
        sys.stdout.write(f"{tokens:6}  {separate_ms:11.3f}  {flash_ms:8.3f}  {separate_ms / flash_ms:13.2f}\n")


if __name__ == "__main__":
    main()
