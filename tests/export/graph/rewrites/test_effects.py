"""What each rewrite takes out of a graph, and what onnxruntime makes of the rest when it loads it."""

from collections import Counter
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper

from export.graph import outliers
from export.graph.graph import Graph
from export.graph.quantize import quantize
from export.graph.rewrites.apply import rewrite
from export.graph.rewrites.plain import plain_attention
from export.graph.rewrites.scores import mask_in_keys, scale_queries
from export.graph.rewrites.shapes import fold_constants
from models.tasks.base import Features, TaskName
from models.tasks.session import open_graph
from tests.export.conftest import KINDS, TASKS, VOCABULARY, feed

Graphs = dict[tuple[str, TaskName], tuple[Path, Path]]
LAYERS = 2


def operators(model: onnx.ModelProto) -> Counter[str]:
    return Counter(node.op_type for node in model.graph.node)


def before_softmax(model: onnx.ModelProto) -> set[str]:
    makers = {name: node for node in model.graph.node for name in node.output}
    return {makers[node.input[0]].op_type for node in model.graph.node if node.op_type == "Softmax"}


@pytest.mark.parametrize("kind", KINDS)
def test_nodes_that_compute_nothing_go(graphs: Graphs, kind: str) -> None:
    model = onnx.load(graphs[kind, "qa"][0])
    graph = Graph(model)
    assert fold_constants(graph)
    graph.finish()
    assert not {"Constant", "Identity"} & set(operators(model))
    assert not fold_constants(graph)


@pytest.mark.parametrize("kind", KINDS)
def test_heads_are_split_by_constant_shapes(graphs: Graphs, kind: str) -> None:
    model = onnx.load(graphs[kind, "qa"][0])
    graph = Graph(model)
    fold_constants(graph)
    before = operators(model)["Concat"]
    assert plain_attention(graph)
    graph.finish()
    assert operators(model)["Concat"] <= before - 4 * LAYERS
    splits = [node for node in graph.nodes if node.op_type == "Reshape" and "attention" in node.name]
    assert len(splits) == 4 * LAYERS
    assert all(graph.is_constant(node.input[1]) for node in splits)


@pytest.mark.parametrize("precision", [0, 1], ids=["fp32", "int8"])
@pytest.mark.parametrize("kind", KINDS)
def test_scores_are_neither_divided_nor_masked_one_by_one(graphs: Graphs, kind: str, precision: int) -> None:
    model = onnx.load(graphs[kind, "qa"][precision])
    graph = Graph(model)
    fold_constants(graph)
    plain_attention(graph)
    graph.finish()  # which drops what it replaced
    assert scale_queries(graph)
    assert mask_in_keys(graph)
    graph.finish()
    assert before_softmax(model) == {"MatMul"}
    assert "Where" not in operators(model) or kind == "roberta"  # whose token types are made by one


@pytest.mark.parametrize("task", ["qa", "similarity"])
@pytest.mark.parametrize("kind", KINDS)
def test_onnxruntime_reads_the_heads_where_they_lie_and_fuses_no_skip(
    graphs: Graphs, tmp_path: Path, kind: str, task: TaskName
) -> None:
    model = onnx.load(graphs[kind, task][1])
    rewrite(model)
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(tmp_path / "optimized.onnx")
    options.log_severity_level = 3  # it warns that this file is for this machine
    onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    optimized = onnx.load(tmp_path / "optimized.onnx")
    found = operators(optimized)
    assert "SkipLayerNormalization" not in found
    assert found["FusedMatMul"] == 2 * LAYERS
    fused = [node for node in optimized.graph.node if node.op_type == "FusedMatMul"]
    batches = [{a.name: helper.get_attribute_value(a) for a in node.attribute}["transBatchB"] for node in fused]
    assert batches == [1] * 2 * LAYERS
    assert found["Gelu"] == LAYERS
    assert found["MatMulIntegerToFloat"] + found["DynamicQuantizeMatMul"] == 6 * LAYERS


@pytest.mark.parametrize("kind", KINDS)
def test_a_classifier_computes_its_last_layer_for_one_token(graphs: Graphs, kind: str) -> None:
    model = onnx.load(graphs[kind, "classify"][0])
    rewrite(model)
    inner = [node.output[0] for node in model.graph.node if node.op_type == "Erf"]
    model.graph.output.extend(helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in inner)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    batch = feed(kind, 9, 7)
    found = session.run(inner, {item.name: batch[item.name] for item in session.get_inputs()})
    assert [output.shape for output in found] == [(9, 2, 1, 64), (1, 2, 1, 64)]


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("kind", KINDS)
def test_a_graph_whose_outliers_were_moved_takes_the_same_rewrites(
    graphs: Graphs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, task: TaskName
) -> None:
    monkeypatch.setattr(outliers, "QUANTILE", 0.5)  # random weights have no outliers
    monkeypatch.setattr(outliers, "MIN_RATIO", 1.0)
    ids = np.random.default_rng(1).integers(5, VOCABULARY, (4, 9))
    fp32, int8 = graphs[kind, task]
    settings = quantize(fp32, tmp_path / "int8.onnx", windows=[Features(row, np.zeros_like(row)) for row in ids])
    assert len(settings.smoothed_nodes) == 6 * LAYERS
    model = onnx.load(tmp_path / "int8.onnx")
    assert rewrite(model) == rewrite(onnx.load(int8))
    onnx.save(model, tmp_path / "rewritten.onnx")
    before, after = (
        open_graph(tmp_path / file, threads=1, exact_products=True) for file in ("int8.onnx", "rewritten.onnx")
    )
    batch = {item.name: feed(kind, 9)[item.name] for item in before.get_inputs()}
    for expected, found in zip(before.run(None, batch), after.run(None, batch), strict=True):
        assert np.abs(found - expected).mean() < 0.05 * np.abs(expected).max()
