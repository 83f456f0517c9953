"""Outliers of activations: what is moved, that float does not change, and what int8 gains."""

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from export.graph.outliers import move_outliers, outlier_factors
from export.graph.quantize import quantize
from models.tasks.base import Features

ROWS, WIDTH, OUTLIER = 50, 64, 7  # a table of fewer than 16 KB stays in float
WINDOWS = [Features(ids, np.zeros_like(ids)) for ids in np.arange(ROWS, dtype=np.int64).reshape(-1, 10)]


def graph_with_outlier(size: float) -> onnx.ModelProto:
    """input_ids -> Gather, one channel so many times as large as the others -> two MatMul by wide weights, summed."""
    draw = np.random.default_rng(0)
    table = draw.uniform(-1, 1, size=(ROWS, WIDTH)).astype(np.float32)
    table[:, OUTLIER] *= size
    weights = {"table": table}
    for name in ("one", "two"):
        weight = draw.normal(size=(WIDTH, 48)).astype(np.float32)
        weight[OUTLIER] /= size  # as training leaves it
        weights[name] = weight
    nodes = [
        helper.make_node("Gather", ["table", "input_ids"], ["words"], "words"),
        helper.make_node("MatMul", ["words", "one"], ["first"], "first"),
        helper.make_node("MatMul", ["words", "two"], ["second"], "second"),
        helper.make_node("Add", ["first", "second"], ["logits"], "logits"),
    ]
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info("input_ids", TensorProto.INT64, ["batch", "length"])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", "length", 48])],
        [numpy_helper.from_array(array, name) for name, array in weights.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)


def logits(model: onnx.ModelProto | Path) -> np.ndarray:
    exact = ReferenceEvaluator(str(model) if isinstance(model, Path) else model)
    [found] = exact.run(["logits"], {"input_ids": np.arange(ROWS).reshape(1, -1)})
    return np.asarray(found)


def test_float_stays_bit_for_bit_what_it_was() -> None:
    model = graph_with_outlier(50.0)
    before = logits(model)
    assert move_outliers(model, WINDOWS) == ["first", "second"]
    assert [node.op_type for node in model.graph.node].count("Mul") == 1  # both read the same value
    np.testing.assert_array_equal(logits(model), before)


def test_int8_is_several_times_as_near_to_float(tmp_path: Path) -> None:
    fp32 = tmp_path / "fp32.onnx"
    onnx.save(graph_with_outlier(50.0), fp32)
    expected = logits(fp32)
    errors = []
    for windows in ([], WINDOWS):
        settings = quantize(fp32, tmp_path / "int8.onnx", windows=windows)
        assert settings.smoothed_nodes == (("first", "second") if windows else ())
        errors.append(np.abs(logits(tmp_path / "int8.onnx") - expected).mean())
    assert errors[1] < errors[0] / 4


def test_a_graph_without_outliers_stays_as_it_is() -> None:
    model = graph_with_outlier(1.0)
    before = graph_with_outlier(1.0)
    assert move_outliers(model, WINDOWS) == []
    assert move_outliers(graph_with_outlier(50.0), []) == []
    assert model == before


def test_a_product_that_stays_in_float_keeps_its_weights() -> None:
    model = graph_with_outlier(50.0)
    assert move_outliers(model, WINDOWS, keep=["first"]) == ["second"]
    first = next(node for node in model.graph.node if node.name == "first")
    assert list(first.input) == ["words", "one"]


def test_factors_are_powers_of_two_of_outliers_alone() -> None:
    largest = np.ones(100, np.float32)
    largest[[3, 50]] = (5.0, 2.9)
    factors = outlier_factors(largest)
    assert factors is not None
    assert {index: factor for index, factor in enumerate(factors.tolist()) if factor != 1} == {3: 4.0, 50: 2.0}


@pytest.mark.parametrize("largest", [np.zeros(100), np.full(100, np.nan), np.r_[np.zeros(99), 5.0]])
def test_channels_of_nothing_or_of_no_number_have_no_outliers(largest: np.ndarray) -> None:
    assert outlier_factors(largest.astype(np.float32)) is None
