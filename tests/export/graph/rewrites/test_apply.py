"""Every rewrite leaves the outputs as they were, for each kind and task, in float and in int8."""

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper

from export.graph.graph import Graph
from export.graph.rewrites.apply import REWRITES, disabled_optimizers, rewrite
from models.tasks.base import TaskName
from tests.export.conftest import KINDS, TASKS, feed

OWN = tuple(name for name in REWRITES if name != "plain_operators")  # which our exporter needs none of
Graphs = dict[tuple[str, TaskName], tuple[Path, Path]]
BATCHES = {"alone": (9,), "of another length": (23,), "padded": (12, 7, 3), "with an empty text": (5, 2)}


def outputs(model: onnx.ModelProto, batch: dict[str, np.ndarray]) -> list[np.ndarray]:
    """What the graph says of real tokens; what it says of padding is nobody's concern."""
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    names = [item.name for item in session.get_inputs()]
    kept = batch["attention_mask"].astype(bool)
    found = [np.asarray(output) for output in session.run(None, {name: batch[name] for name in names})]
    return [output[kept] if output.shape[:2] == kept.shape else output for output in found]


@pytest.mark.parametrize("batch", BATCHES.values(), ids=BATCHES)
@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("kind", KINDS)
def test_each_rewrite_in_turn_gives_the_same_outputs(
    graphs: Graphs, kind: str, task: TaskName, batch: tuple[int, ...]
) -> None:
    model = onnx.load(graphs[kind, task][0])
    expected = outputs(model, feed(kind, *batch))
    graph, applied = Graph(model), []
    for name, change in REWRITES.items():
        if change(graph):
            graph.finish()
            applied.append(name)
        for own, other in zip(outputs(model, feed(kind, *batch)), expected, strict=True):
            np.testing.assert_allclose(own, other, atol=2e-5, err_msg=name)
    assert applied == [name for name in OWN if name != "first_token_only" or task == "classify"]


@pytest.mark.parametrize("batch", BATCHES.values(), ids=BATCHES)
@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("kind", KINDS)
def test_an_int8_graph_is_rewritten_too(graphs: Graphs, kind: str, task: TaskName, batch: tuple[int, ...]) -> None:
    model = onnx.load(graphs[kind, task][1])
    expected = outputs(model, feed(kind, *batch))
    assert rewrite(model) == tuple(name for name in OWN if name != "first_token_only" or task == "classify")
    for own, other in zip(outputs(model, feed(kind, *batch)), expected, strict=True):
        # Where a float sum moves by its last bit, a rounding to 8 bits may fall the other way. A classifier's last
        # layer gets scales of its first token alone, which are finer.
        assert np.abs(own - other).mean() <= (0.1 if task == "classify" else 0.02) * np.abs(other).max()


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("kind", KINDS)
def test_the_graph_keeps_its_inputs_outputs_and_free_dimensions_and_standard_operators(
    graphs: Graphs, kind: str, task: TaskName
) -> None:
    for path in graphs[kind, task]:
        before, after = onnx.load(path), onnx.load(path)
        rewrite(after)
        for side in ("input", "output"):
            assert [str(value) for value in getattr(after.graph, side)] == [
                str(value) for value in getattr(before.graph, side)
            ]
        assert {node.domain for node in after.graph.node} <= {"", "ai.onnx"}
        assert after.opset_import[0].version == before.opset_import[0].version


def test_a_second_time_there_is_nothing_left_to_do(graphs: Graphs) -> None:
    model = onnx.load(graphs["distilbert", "classify"][1])
    rewrite(model)
    again = onnx.ModelProto()
    again.CopyFrom(model)
    assert rewrite(again) == ()
    assert again == model


def test_a_graph_of_another_kind_is_left_as_it_is() -> None:
    """Its softmax weighs classes, not tokens."""
    graph = helper.make_graph(
        [helper.make_node("Softmax", ["x"], ["y"], "softmax", axis=-1)],
        "other",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 4])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", 4])],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
    assert rewrite(model) == ()


def test_onnxruntimes_slow_fusion_is_left_out_where_the_layout_does_not_keep_it_away() -> None:
    assert disabled_optimizers(["fold_constants"], "int8") == ("SkipLayerNormFusion",)
    assert disabled_optimizers(["fold_constants"], "fp32") == ()
    assert disabled_optimizers(["fold_constants", "tokens_first"], "int8") == ()
