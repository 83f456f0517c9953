import numpy as np
import onnx
import pytest

from models.tasks.base import Features
from models.tasks.session import graph_outputs, onnx_run, open_graph
from service.checkup.encoder import HIDDEN, VOCABULARY, Encoder, Precision
from service.checkup.onnx_file import integer, varint


@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_what_is_written_by_hand_is_valid_onnx(precision: Precision) -> None:
    model, output = Encoder(precision).model()
    graph = onnx.load_model_from_string(model)
    onnx.checker.check_model(graph, full_check=True)
    operators = {node.op_type for node in graph.graph.node}
    assert ("MatMulInteger" in operators) == (precision == "int8")
    assert {"Softmax", "LayerNormalization", "Erf"} <= operators
    assert [each.name for each in graph.graph.output] == [output]


def test_int8_computes_what_fp32_computes_but_for_its_rounding() -> None:
    window = Features(np.arange(24) % VOCABULARY, np.zeros(24, np.int64))
    outputs = []
    for precision in ("fp32", "int8"):
        graph = open_graph(Encoder(precision).model()[0], threads=1)
        [output] = onnx_run(graph, graph_outputs(graph))(window)
        outputs.append(output)
    fp32, int8 = outputs
    assert fp32.shape == (24, HIDDEN)
    assert np.corrcoef(fp32.ravel(), int8.ravel())[0, 1] > 0.99
    assert not np.array_equal(fp32, int8)


@pytest.mark.parametrize(
    ("value", "written"), [(0, b"\0"), (127, b"\x7f"), (300, b"\xac\x02"), (-1, b"\xff" * 9 + b"\x01")]
)
def test_integers_are_written_as_protobuf_has_them(value: int, written: bytes) -> None:
    assert varint(value) == written
    assert integer(3, value) == b"\x18" + written
