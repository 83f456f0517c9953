"""Reading and changing a graph."""

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from export.graph.graph import Graph


@pytest.fixture
def graph() -> Graph:
    """y = (x + one) * two, z = shape of y."""
    nodes = [
        helper.make_node("Add", ["x", "one"], ["sum"], "add"),
        helper.make_node("Mul", ["sum", "two"], ["y"], "mul"),
        helper.make_node("Shape", ["y"], ["z"], "shape"),
    ]
    constants = [
        numpy_helper.from_array(np.asarray(value, np.float32), name) for name, value in (("one", 1), ("two", 2))
    ]
    inputs = [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n"])]
    outputs = [
        helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n"]),
        helper.make_tensor_value_info("z", TensorProto.INT64, [1]),
    ]
    model = helper.make_model(
        helper.make_graph(nodes, "g", inputs, outputs, constants),
        opset_imports=[helper.make_opsetid("", 18)],
        ir_version=8,
    )
    return Graph(model)


def test_a_value_has_a_maker_and_readers(graph: Graph) -> None:
    maker = graph.producer("sum")
    assert maker is not None
    assert maker.name == "add"
    assert [node.name for node in graph.consumers("sum")] == ["mul"]
    assert graph.producer("x") is None
    assert graph.is_constant("two")
    assert graph.constant("two") == 2


def test_a_value_depends_on_inputs_but_its_shape_on_none(graph: Graph) -> None:
    assert graph.sources("y") == {"x"}
    assert graph.sources("z") == set()


def test_finishing_sorts_what_was_added_and_drops_what_nobody_reads(graph: Graph) -> None:
    mul = graph.producer("y")
    assert mul is not None
    mul.input[0] = graph.add("Neg", [graph.add("Sub", ["x", "one"], "less")], "turned")
    graph.finish()
    assert [node.op_type for node in graph.model.graph.node] == ["Sub", "Neg", "Mul", "Shape"]
    assert {tensor.name for tensor in graph.model.graph.initializer} == {"one", "two"}
    onnx.checker.check_model(graph.model)


def test_a_constant_is_added_once(graph: Graph) -> None:
    assert graph.integers(0, -1) == graph.integers(0, -1) == "int64_0_-1"
    with pytest.raises(AssertionError, match="two"):
        graph.add_constant("two", np.float32(3))


def test_readers_are_redirected_but_for_those_kept(graph: Graph) -> None:
    shape = graph.producer("z")
    assert shape is not None
    graph.add("Neg", ["y"], "negative")
    graph.redirect("y", "sum", keep=[shape])
    assert [node.name for node in graph.consumers("y")] == ["shape"]
    assert [node.name for node in graph.consumers("sum")] == ["mul", "negative"]


def test_what_only_a_branch_reads_is_kept_and_made_before_it() -> None:
    """As in DeBERTa-v2, whose relative positions are clipped by an If."""
    value = helper.make_tensor_value_info
    inner_nodes = [helper.make_node("Identity", ["sum"], ["picked"], "inner")]
    branch = helper.make_graph(inner_nodes, "branch", [], [value("picked", TensorProto.FLOAT, ["n"])])
    nodes = [
        helper.make_node("If", ["is_true"], ["y"], "choice", then_branch=branch, else_branch=branch),
        helper.make_node("Add", ["x", "one"], ["sum"], "add"),
    ]
    constants = [
        numpy_helper.from_array(np.array(True), "is_true"),
        numpy_helper.from_array(np.array(1, np.float32), "one"),
    ]
    outer = helper.make_graph(
        nodes, "g", [value("x", TensorProto.FLOAT, ["n"])], [value("y", TensorProto.FLOAT, ["n"])], constants
    )
    model = helper.make_model(outer, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
    Graph(model).finish()
    assert [node.name for node in model.graph.node] == ["add", "choice"]


def test_the_part_before_a_value_ends_at_its_leaves(graph: Graph) -> None:
    part = graph.before("z", ["sum"])
    assert part is not None
    nodes, constants, leaves = part
    assert [node.name for node in nodes] == ["mul", "shape"]
    assert ([tensor.name for tensor in constants], leaves) == (["two"], ["sum"])
    assert graph.before("z", []) is None
