"""Graphs that other tools exported become what our own export gives, and say the same as before."""

import functools
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from export.graph.graph import Graph
from export.graph.rewrites.apply import REWRITES, rewrite
from export.graph.rewrites.operators import plain_operators
from export.graph.rewrites.plain import plain_attention
from export.graph.rewrites.shapes import fold_constants
from models.tasks.base import TaskName
from tests.export.conftest import KINDS, TASKS, VOCABULARY
from tests.export.graph.rewrites.foreign import FOREIGN, export_by_optimum, export_by_torch
from tests.export.graph.rewrites.test_apply import BATCHES, outputs

Graphs = dict[tuple[str, TaskName], tuple[Path, Path]]
Export = Callable[[str, TaskName], tuple[Path, Path]]
# Queries that meet positions (DeBERTa) or are turned by them (ModernBERT) are not what the rewrites know.
UNKNOWN = {"deberta-v2", "modernbert"}
# A task changes the head alone: every kind has one, and every task stands beside four kinds of attention (tests/matrix
# has all of them). optimum has no export of ModernBERT for questions.
ATTENTIONS = ("bert", "mpnet", "deberta-v2", "modernbert")
CELLS = [
    (kind, task)
    for kind in FOREIGN
    for task in TASKS
    if (task == "classify" or kind in ATTENTIONS) and (kind, task) != ("modernbert", "qa")
]


@pytest.fixture(scope="module")
def stock(tmp_path_factory: pytest.TempPathFactory) -> Export:
    """By kind and task: optimum's export in float, and the same in int8, made when it is first asked for."""
    return functools.cache(lambda kind, task: export_by_optimum(kind, task, tmp_path_factory.mktemp("stock")))


def feed(kind: str, *lengths: int) -> dict[str, np.ndarray]:
    padding = 1 if FOREIGN[kind].get("pad_token_id") else 0
    ids = np.random.default_rng(0).integers(5, VOCABULARY, (len(lengths), max(lengths)))
    mask = (np.arange(max(lengths)) < np.array(lengths)[:, None]).astype(np.int64)
    return {
        "input_ids": np.where(mask == 1, ids, padding),
        "attention_mask": mask,
        "token_type_ids": np.zeros_like(ids),
    }


def expected_rewrites(kind: str, task: TaskName) -> tuple[str, ...]:
    if kind in UNKNOWN:
        return ("fold_constants",)
    unneeded = {"plain_operators"} | (set() if task == "classify" else {"first_token_only"})
    return tuple(name for name in REWRITES if name not in unneeded)


def assert_says_the_same(model: onnx.ModelProto, original: onnx.ModelProto, kind: str) -> None:
    for batch in BATCHES.values():
        inputs = feed(kind, *batch)
        for found, expected in zip(outputs(model, inputs), outputs(original, inputs), strict=True):
            np.testing.assert_allclose(found, expected, atol=2e-5)


@pytest.mark.parametrize(("kind", "task"), CELLS)
def test_a_stock_export_gets_every_rewrite(stock: Export, kind: str, task: TaskName) -> None:
    original, model = onnx.load(stock(kind, task)[0]), onnx.load(stock(kind, task)[0])
    assert rewrite(model) == expected_rewrites(kind, task)
    assert_says_the_same(model, original, kind)


@pytest.mark.parametrize(("kind", "task"), [cell for cell in CELLS if "classify" in cell or "bert" in cell])
def test_a_stock_export_in_int8_gets_every_rewrite(stock: Export, kind: str, task: TaskName) -> None:
    original, model = onnx.load(stock(kind, task)[1]), onnx.load(stock(kind, task)[1])
    assert rewrite(model) == expected_rewrites(kind, task)
    for batch in BATCHES.values():
        inputs = feed(kind, *batch)
        for found, expected in zip(outputs(model, inputs), outputs(original, inputs), strict=True):
            # As in test_apply: roundings to 8 bits may fall the other way.
            assert np.abs(found - expected).mean() <= (0.1 if task == "classify" else 0.02) * np.abs(expected).max()


@pytest.mark.parametrize("precision", [0, 1], ids=["fp32", "int8"])
@pytest.mark.parametrize("task", ["qa", "classify"])
@pytest.mark.parametrize("kind", KINDS)
def test_a_stock_export_becomes_our_own_node_for_node(
    stock: Export, graphs: Graphs, kind: str, task: TaskName, precision: int
) -> None:
    models = [onnx.load(paths[precision]) for paths in (stock(kind, task), graphs[kind, task])]
    for model in models:
        rewrite(model)
    nodes, own_nodes = ([node.op_type for node in model.graph.node] for model in models)
    assert nodes == own_nodes


@pytest.mark.parametrize(("opset", "attention"), [(14, "sdpa"), (14, "eager"), (18, "sdpa"), (18, "eager")])
@pytest.mark.parametrize("kind", ["bert", "distilbert"])
def test_a_graph_of_torchs_own_exporter_is_rewritten(tmp_path: Path, kind: str, opset: int, attention: str) -> None:
    path = export_by_torch(kind, "classify", tmp_path / "model.onnx", opset=opset, attention=attention)
    model = onnx.load(path)
    rewrites = rewrite(model)
    assert {"plain_attention", "scale_queries", "mask_in_keys"} <= set(rewrites)
    assert ("tokens_first" in rewrites) == (opset == 18)  # below 17, LayerNormalization is nine nodes
    assert_says_the_same(model, onnx.load(path), kind)


def test_nothing_is_done_below_the_opset_that_the_rewrites_are_written_in(tmp_path: Path) -> None:
    path = export_by_torch("bert", "classify", tmp_path / "model.onnx", opset=11, attention="eager")
    assert rewrite(onnx.load(path)) == ()


def test_nine_nodes_become_one_normalization_at_a_later_opset(tmp_path: Path) -> None:
    path = export_by_torch("bert", "classify", tmp_path / "model.onnx", opset=14, attention="eager")
    original = onnx.version_converter.convert_version(onnx.load(path), 18)
    model = onnx.ModelProto()
    model.CopyFrom(original)
    assert rewrite(model) == tuple(REWRITES)
    assert Counter(node.op_type for node in model.graph.node)["LayerNormalization"] == 5
    assert_says_the_same(model, original, "bert")


def test_gelu_is_brought_into_the_order_that_onnxruntime_fuses() -> None:
    """torch's newer exporter halves first."""
    constants = {"root": np.sqrt(np.float32(2)), "one": np.float32(1), "half": np.float32(0.5)}
    nodes = [
        helper.make_node("Div", ["x", "root"], ["argument"], "argument"),
        helper.make_node("Erf", ["argument"], ["erf"], "erf"),
        helper.make_node("Add", ["erf", "one"], ["shifted"], "shifted"),
        helper.make_node("Mul", ["half", "shifted"], ["halved"], "halved"),
        helper.make_node("Mul", ["x", "halved"], ["gelu"], "gelu"),
    ]
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        nodes,
        "gelu",
        [value("x", TensorProto.FLOAT, ["batch", 4])],
        [value("gelu", TensorProto.FLOAT, ["batch", 4])],
        [numpy_helper.from_array(np.asarray(array), name) for name, array in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
    wrapped = Graph(model)
    assert plain_operators(wrapped)
    wrapped.finish()
    last = model.graph.node[-1]
    assert (last.op_type, list(last.output), "float32_0.5" in last.input) == ("Mul", ["gelu"], True)
    assert not plain_operators(wrapped)


def with_keys_turned_by_four_nodes(model: onnx.ModelProto) -> None:
    """As torch's newer exporter does: heads and batch become one dimension and two again."""
    graph = Graph(model)
    for number, node in enumerate([node for node in graph.nodes if [0, 2, 3, 1] in _perms(node)]):
        (split,), (result,) = node.input, node.output
        graph.remove(node)
        heads_first = graph.add("Transpose", [split], f"turn_{number}", perm=[0, 2, 1, 3])
        graph.add("Shape", [heads_first], f"shape_{number}")
        sizes = [
            graph.add(
                "Slice", [f"shape_{number}", graph.integers(start), graph.integers(start + 1)], f"{part}_{number}"
            )
            for start, part in enumerate(("batch", "heads", "tokens", "width"))
        ]
        flat = graph.add("Concat", [graph.integers(-1), *sizes[2:]], f"flat_{number}", axis=0)
        full = graph.add("Concat", [*sizes[:2], sizes[3], sizes[2]], f"full_{number}", axis=0)
        joined = graph.add("Reshape", [heads_first, flat], f"joined_{number}")
        turned = graph.add("Transpose", [joined], f"turned_{number}", perm=[0, 2, 1])
        graph.add("Reshape", [turned, full], result)
    graph.finish()


def _perms(node: onnx.NodeProto) -> list[object]:
    return [helper.get_attribute_value(entry) for entry in node.attribute if node.op_type == "Transpose"]


def with_attention_in_a_window(model: onnx.ModelProto, width: int) -> None:
    """Mask what lies farther away than `width` tokens, together with the padding, as ModernBERT does."""
    graph = Graph(model)
    graph.add("Shape", ["input_ids"], "lengths")
    length = graph.add("Gather", ["lengths", graph.add_constant("second", np.array(1))], "length")
    numbers = [graph.add_constant(f"int_{value}", np.array(value)) for value in (0, 1)]
    positions = graph.add("Range", [numbers[0], length, numbers[1]], "positions")
    rows = graph.add("Unsqueeze", [positions, graph.integers(1)], "rows")
    distance = graph.add("Abs", [graph.add("Sub", [rows, positions], "difference")], "distance")
    is_near = graph.add("Less", [distance, graph.add_constant("width", np.array(width))], "is_near")
    for number, softmax in enumerate([node for node in graph.nodes if node.op_type == "Softmax"]):
        addition = graph.producer(softmax.input[0])
        assert addition is not None
        mask = addition.input[1]
        lowest = graph.add_constant("lowest", np.float32(-1e9))
        addition.input[1] = graph.add("Where", [is_near, mask, lowest], f"window_{number}")
    graph.finish()


def with_a_mask_of_the_shape_of_the_states(model: onnx.ModelProto) -> None:
    """As transformers 5 does: the first states, not the ids, say for how many texts and tokens the mask is."""
    graph = Graph(model)
    fold_constants(graph)
    states = next(node.output[0] for node in graph.nodes if node.op_type == "LayerNormalization")
    graph.add("Shape", [states], "sizes")
    batch, length = (graph.add("Gather", ["sizes", graph.integers(axis)], f"size_{axis}") for axis in (0, 1))
    graph.add("Concat", [batch, graph.integers(1), length, length], "scores_sizes", axis=0)
    graph.add("Cast", ["attention_mask"], "is_kept", to=TensorProto.BOOL)
    graph.add("Unsqueeze", ["is_kept", graph.integers(1, 2)], "is_kept_by_key")
    graph.add("Expand", ["is_kept_by_key", "scores_sizes"], "is_kept_by_score")
    added = [graph.add_constant(f"added_{value:g}", np.float32(value)) for value in (0, np.finfo(np.float32).min)]
    graph.add("Where", ["is_kept_by_score", *added], "mask_by_score")
    for softmax in [node for node in graph.nodes if node.op_type == "Softmax"]:
        addition = graph.producer(softmax.input[0])
        assert addition is not None
        addition.input[1] = "mask_by_score"
    graph.finish()


@pytest.mark.parametrize("precision", [0, 1], ids=["fp32", "int8"])
@pytest.mark.parametrize("kind", KINDS)
def test_a_mask_may_take_its_shape_from_the_states(graphs: Graphs, kind: str, precision: int) -> None:
    original, own = (onnx.load(graphs[kind, "classify"][precision]) for _ in range(2))
    with_a_mask_of_the_shape_of_the_states(original)
    model = onnx.ModelProto()
    model.CopyFrom(original)
    assert rewrite(model)[0] == "plain_attention"
    rewrite(own)
    assert [node.op_type for node in model.graph.node] == [node.op_type for node in own.graph.node]
    if not precision:
        assert_says_the_same(model, original, kind)


@pytest.mark.parametrize("width", [3, 600])
def test_a_window_of_attention_is_not_taken_for_a_mask(graphs: Graphs, width: int) -> None:
    model = onnx.load(graphs["bert", "qa"][0])
    with_attention_in_a_window(model, width)
    assert rewrite(model) == ("fold_constants",)


def test_keys_turned_by_four_nodes_are_turned_by_one(graphs: Graphs) -> None:
    original = onnx.load(graphs["bert", "qa"][0])
    with_keys_turned_by_four_nodes(original)
    model = onnx.ModelProto()
    model.CopyFrom(original)
    assert "tokens_first" in rewrite(model)
    own = onnx.load(graphs["bert", "qa"][0])
    rewrite(own)
    assert [node.op_type for node in model.graph.node] == [node.op_type for node in own.graph.node]
    assert_says_the_same(model, original, "bert")


def test_attention_that_others_read_too_keeps_what_they_read(graphs: Graphs) -> None:
    """An exporter may give the weights of attention as outputs."""
    original = onnx.load(graphs["bert", "qa"][0])
    softmax = next(node for node in original.graph.node if node.op_type == "Softmax")
    shape: list[str | int | None] = ["batch", 4, "tokens", "tokens"]
    original.graph.output.append(helper.make_tensor_value_info(softmax.output[0], TensorProto.FLOAT, shape))
    model = onnx.ModelProto()
    model.CopyFrom(original)
    rewrite(model)
    inputs = feed("bert", 9)
    for found, expected in zip(outputs(model, inputs), outputs(original, inputs), strict=True):
        np.testing.assert_allclose(found, expected, atol=2e-5)


def test_attention_of_half_a_graph_is_left_as_it_is(graphs: Graphs) -> None:
    model = onnx.load(graphs["bert", "qa"][0])
    softmax = next(node for node in model.graph.node if node.op_type == "Softmax")
    softmax.op_type = "LogSoftmax"  # which is no attention
    graph = Graph(model)
    fold_constants(graph)
    assert plain_attention(graph)
    graph.finish()
    assert "tokens_first" not in rewrite(model)
