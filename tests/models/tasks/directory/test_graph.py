"""What an ONNX file says of its outputs, beside what the onnx library reads of it."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from models.tasks.directory.files import BundleError
from models.tasks.directory.graph import output_shapes, read_weights


def write_graph(path: Path, outputs: Mapping[str, Sequence[int | str] | None]) -> Path:
    """A graph that is never run: a large weight, and outputs of these shapes."""
    nodes = [helper.make_node("Identity", ["weight"], [name]) for name in outputs]
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in outputs.items()]
    weight = numpy_helper.from_array(np.zeros((300, 300), np.float32), "weight")
    onnx.save(helper.make_model(helper.make_graph(nodes, "graph", [], values, [weight])), path)
    return path


def test_names_and_shapes_of_the_outputs_are_read_in_order(tmp_path: Path) -> None:
    outputs: dict[str, list[int | str] | None] = {
        "logits": ["batch", 3],
        "states": ["batch", "seq", 384],
        "café": [],
        "unknown": None,
    }
    shapes = output_shapes(write_graph(tmp_path / "model.onnx", outputs))
    assert list(shapes.items()) == [
        ("logits", (None, 3)),
        ("states", (None, None, 384)),
        ("café", ()),
        ("unknown", None),
    ]


def test_a_file_that_is_not_onnx_has_no_outputs(tmp_path: Path) -> None:
    file = write_graph(tmp_path / "model.onnx", {"logits": [1, 2]})
    content = file.read_bytes()
    for other_content in (b"", b"fp32 graph", content[:-1], content[: len(content) // 2], b"\xff" * 9):
        file.write_bytes(other_content)
        assert output_shapes(file) == {}


def test_a_file_that_may_not_be_read_is_refused(tmp_path: Path) -> None:
    (tmp_path / "model.onnx").mkdir()
    reason = r"cannot be read \(Is a directory\); correct its permissions$"
    for read in (output_shapes, read_weights):
        with pytest.raises(BundleError, match=rf"model\.onnx {reason}"):
            read(tmp_path / "model.onnx")
