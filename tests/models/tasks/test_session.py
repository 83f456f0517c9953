"""Opening a graph with onnxruntime."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
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


DIRECTLY = """
import importlib
from models.tasks.errors import run_command
run_command("test", lambda: importlib.import_module("onnxruntime") and None)
"""


@pytest.mark.parametrize("script", ["import models.tasks.session", DIRECTLY], ids=["kernel", "command"])
def test_onnxruntime_keeps_no_record_that_it_would_send_to_its_maker(script: str, tmp_path: Path) -> None:
    switches = {"CI", "ORT_DISABLE_TELEMETRY", "XDG_CACHE_HOME"}
    environment = {name: value for name, value in os.environ.items() if name not in switches}
    subprocess.run([sys.executable, "-c", script], env=environment | {"HOME": str(tmp_path)}, check=True)
    assert list(tmp_path.iterdir()) == []
