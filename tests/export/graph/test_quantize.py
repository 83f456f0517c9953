"""Dynamic int8: what is quantized, what stays in float, and by which scales."""

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from export.checkpoint import ExportError
from export.graph.quantize import head_nodes, named_products, quantize, quantize_embeddings, quantize_rows

ROWS, WIDTH = 600, 16


def embedding_graph(table: np.ndarray) -> onnx.ModelProto:
    """ids -> Gather -> MatMul by a wide weight -> MatMul by a head of 2 columns."""
    draw = np.random.default_rng(1)
    weights = {
        "table": table,
        "types": np.ones((2, WIDTH), np.float32),
        "wide": draw.normal(size=(WIDTH, 64)).astype(np.float32),
        "head": draw.normal(size=(64, 2)).astype(np.float32),
    }
    nodes = [
        helper.make_node("Gather", ["table", "ids"], ["words"], "words"),
        helper.make_node("Gather", ["types", "zero"], ["kind"], "kind"),
        helper.make_node("Add", ["words", "kind"], ["embedded"], "embedded"),
        helper.make_node("MatMul", ["embedded", "wide"], ["hidden"], "hidden"),
        helper.make_node("MatMul", ["hidden", "head"], ["logits"], "logits"),
    ]
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info("ids", TensorProto.INT64, ["batch", "length"])],
        [
            helper.make_tensor_value_info("words", TensorProto.FLOAT, ["batch", "length", WIDTH]),
            helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", "length", 2]),
        ],
        [
            *(numpy_helper.from_array(array, name) for name, array in weights.items()),
            numpy_helper.from_array(np.zeros((1, 1), np.int64), "zero"),
        ],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)


@pytest.fixture
def table() -> np.ndarray:
    """Rows of very different sizes, one of them zero: one scale for all would lose the small ones."""
    draw = np.random.default_rng(0)
    sizes = 10.0 ** draw.uniform(-3, 1, size=(ROWS, 1))
    rows = (sizes * draw.normal(size=(ROWS, WIDTH))).astype(np.float32)
    rows[7] = 0.0
    return rows


def run(model: onnx.ModelProto | Path, ids: np.ndarray) -> list[np.ndarray]:
    source = str(model) if isinstance(model, Path) else model.SerializeToString()
    session = onnxruntime.InferenceSession(source, providers=["CPUExecutionProvider"])
    return [np.asarray(output) for output in session.run(["words", "logits"], {"ids": ids})]


def test_rows_come_back_within_half_a_step_of_their_own_scale(table: np.ndarray) -> None:
    rows, scales = quantize_rows(table)
    assert (rows.dtype, scales.dtype) == (np.dtype(np.int8), np.dtype(np.float32))
    assert scales.shape == (ROWS, 1)
    assert np.all(np.abs(rows * scales - table) <= scales * 0.5001)
    assert not rows[7].any()
    assert np.abs(rows).max() == 127


def test_quantized_embeddings_equal_numpy(table: np.ndarray) -> None:
    model = embedding_graph(table)
    quantize_embeddings(model)
    onnx.checker.check_model(model, full_check=True)
    ids = np.array([[0, 7, 599, 3], [5, 5, 1, 2]])
    rows, scales = quantize_rows(table)
    np.testing.assert_array_equal(run(model, ids)[0], (rows.astype(np.float32) * scales)[ids])


def test_small_table_stays_in_float(table: np.ndarray) -> None:
    model = embedding_graph(table)
    quantize_embeddings(model)
    kinds = {tensor.name: tensor.data_type for tensor in model.graph.initializer}
    assert kinds["types"] == TensorProto.FLOAT
    assert kinds["table_int8"] == TensorProto.INT8
    assert "table" not in kinds


def test_table_that_something_else_reads_stays_in_float(table: np.ndarray) -> None:
    model = embedding_graph(table)
    tied = helper.make_node("Transpose", ["table"], ["decoder"], "decoder", perm=[1, 0])
    model.graph.node.append(tied)
    quantize_embeddings(model)
    assert "table" in {tensor.name for tensor in model.graph.initializer}


def test_rows_that_a_quantized_product_reads_have_names_of_their_own(table: np.ndarray, tmp_path: Path) -> None:
    model = embedding_graph(table)
    product = next(node for node in model.graph.node if node.name == "hidden")
    product.input[0] = "words"  # for whose scale onnxruntime's quantizer has a name
    onnx.save(model, tmp_path / "fp32.onnx")
    quantize(tmp_path / "fp32.onnx", tmp_path / "int8.onnx")
    names = [name for node in onnx.load(tmp_path / "int8.onnx").graph.node for name in node.output]
    assert len(names) == len(set(names))


def test_head_stays_in_float_and_the_rest_is_int8(table: np.ndarray, tmp_path: Path) -> None:
    fp32, int8 = tmp_path / "fp32.onnx", tmp_path / "int8.onnx"
    onnx.save(embedding_graph(table), fp32)
    settings = quantize(fp32, int8)
    assert settings.float_nodes == ("logits",)
    graph = onnx.load(int8).graph
    assert [node.name for node in graph.node if node.op_type == "MatMul"] == ["logits"]
    assert {node.domain for node in graph.node} <= {"", "ai.onnx"}
    wide = next(tensor for tensor in graph.initializer if tensor.name == "wide_quantized")
    scales = next(tensor for tensor in graph.initializer if tensor.name == "wide_scale")
    assert (wide.data_type, list(scales.dims)) == (TensorProto.INT8, [64])
    ids = np.arange(40).reshape(1, -1)
    expected = run(fp32, ids)[1]
    exact = ReferenceEvaluator(str(int8))  # onnxruntime's products saturate on a CPU without VNNI
    [logits] = exact.run(["logits"], {"ids": ids})
    np.testing.assert_allclose(np.asarray(logits), expected, atol=0.02 * np.abs(expected).max())


def test_reduced_range_keeps_weights_to_seven_bits(table: np.ndarray, tmp_path: Path) -> None:
    fp32 = tmp_path / "fp32.onnx"
    onnx.save(embedding_graph(table), fp32)
    largest = {}
    for reduce_range in (False, True):
        int8 = tmp_path / f"{reduce_range}.onnx"
        assert quantize(fp32, int8, reduce_range=reduce_range).reduce_range is reduce_range
        weights = {tensor.name: numpy_helper.to_array(tensor) for tensor in onnx.load(int8).graph.initializer}
        largest[reduce_range] = int(np.abs(weights["wide_quantized"].astype(int)).max())
    assert largest[False] == 127
    assert largest[True] <= 64


def test_head_is_the_product_with_few_columns(table: np.ndarray) -> None:
    assert head_nodes(embedding_graph(table).graph) == ["logits"]


def test_products_are_kept_in_float_by_parts_of_their_names() -> None:
    names = ("/layer.0/out_lin/MatMul", "/layer.0/q_lin/MatMul", "/layer.1/out_lin/MatMul")
    nodes = [helper.make_node("MatMul", ["x", "w"], ["y"], name) for name in names]
    nodes.append(helper.make_node("Add", ["y", "b"], ["z"], "/layer.0/out_lin/Add"))
    graph = helper.make_graph(nodes, "g", [], [])
    assert named_products(graph, ["layer.0/out_lin"]) == ["/layer.0/out_lin/MatMul"]
    assert named_products(graph, []) == []
    with pytest.raises(ExportError, match=r"^--keep-float lin3: no product has this in its name; the first are /layer"):
        named_products(graph, ["layer.0/out_lin", "lin3"])
