"""Opening a graph with onnxruntime."""

from pathlib import Path

import numpy as np
from onnx import TensorProto, helper, numpy_helper, save

from models.tasks.session import open_graph


def test_products_of_bytes_are_exact_on_every_cpu(tmp_path: Path) -> None:
    """Two products of 255 and 127 are beyond 16 bits, where a CPU without VNNI would stop at 32,767."""
    weights = np.full((64, 4), 127, dtype=np.int8)
    graph = helper.make_graph(
        [helper.make_node("MatMulInteger", ["bytes", "weights"], ["sums"])],
        "saturating",
        [helper.make_tensor_value_info("bytes", TensorProto.UINT8, [1, 64])],
        [helper.make_tensor_value_info("sums", TensorProto.INT32, [1, 4])],
        [numpy_helper.from_array(weights, "weights")],
    )
    save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10), tmp_path / "model.onnx")
    session = open_graph(tmp_path / "model.onnx", threads=1, exact_products=True)
    [sums] = session.run(None, {"bytes": np.full((1, 64), 255, dtype=np.uint8)})
    assert sums.tolist() == [[64 * 255 * 127] * 4]
    # With VNNI they are exact anyway, so that there this alone tells.
    assert session.get_session_options().get_session_config_entry("session.x64quantprecision") == "1"
