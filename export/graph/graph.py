"""Lets rewrites read and change a graph: which node makes a value, which read it, what is constant."""

from collections.abc import Collection, Iterable, Sequence
from typing import Any, TypeVar

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

Array = NDArray[Any]  # of whatever type a constant has
Proto = TypeVar("Proto", onnx.NodeProto, onnx.TensorProto)
CONTROL_FLOW = {"If", "Loop", "Scan"}
SHAPES_ONLY = {"Shape"}  # these read no values, so a value does not depend on what stands behind them


class Graph:
    """Wraps an onnx.ModelProto, which is changed in place; `finish` brings its nodes into order again."""

    def __init__(self, model: onnx.ModelProto) -> None:
        self.model = model
        self.nodes: list[onnx.NodeProto] = list(model.graph.node)
        self._constants: dict[str, onnx.TensorProto] = {tensor.name: tensor for tensor in model.graph.initializer}
        self._added = 0

    @property
    def inputs(self) -> list[str]:
        return [value.name for value in self.model.graph.input]

    @property
    def outputs(self) -> list[str]:
        return [value.name for value in self.model.graph.output]

    @property
    def opset(self) -> int:
        version: int = next(entry.version for entry in self.model.opset_import if entry.domain in ("", "ai.onnx"))
        return version

    def producer(self, name: str) -> onnx.NodeProto | None:
        """Returns: the node that makes this value; None for inputs and constants."""
        return next((node for node in self.nodes if name in node.output), None)

    def consumers(self, name: str) -> list[onnx.NodeProto]:
        return [node for node in self.nodes if name in inputs_of(node)]

    def is_constant(self, name: str) -> bool:
        return name in self._constants

    def constant(self, name: str) -> Array:
        array: Array = numpy_helper.to_array(self._constants[name])
        return array

    def constant_like(self, name: str, of: str) -> None:
        """Give a constant another name as well."""
        copy = onnx.TensorProto()
        copy.CopyFrom(self._constants[of])
        copy.name = name
        self._constants[name] = copy

    def dimensions(self, name: str) -> tuple[int, ...]:
        """Returns: the shape of a constant."""
        return tuple(self._constants[name].dims)

    def add_constant(self, name: str, value: Array | np.float32) -> str:
        """Add it unless a constant of this name is there already, which must then be the same."""
        array = np.asarray(value)
        if name in self._constants:
            assert np.array_equal(self.constant(name), array), name
        else:
            self._constants[name] = numpy_helper.from_array(np.ascontiguousarray(array).reshape(array.shape), name)
        return name

    def integers(self, *values: int) -> str:
        """Add a constant list of int64, for shapes and axes."""
        return self.add_constant("_".join(map(str, ("int64", *values))), np.array(values, np.int64))

    def add(self, kind: str, inputs: Sequence[str], output: str, **attributes: Any) -> str:
        """Add a node of the standard operators with one output, of the same name. `attributes`: as make_node."""
        assert self.producer(output) is None, output
        assert not self.is_constant(output), output
        self.nodes.append(helper.make_node(kind, inputs, [output], output, **attributes))
        return output

    def remove(self, node: onnx.NodeProto) -> None:
        self.nodes = [other_node for other_node in self.nodes if other_node is not node]

    def redirect(self, old: str, new: str, *, keep: Iterable[onnx.NodeProto] = ()) -> None:
        """Let every reader of `old` but those in `keep` read `new` instead."""
        kept_ids = {id(node) for node in keep}
        for node in self.consumers(old):
            if id(node) not in kept_ids:
                replace_input(node, old, new)

    def sources(self, name: str) -> set[str]:
        """Find the graph's inputs whose values (not shapes) a value is computed from."""
        makers = self._makers()
        inputs, visited_names, pending_names = set(), set(), [name]
        while pending_names:
            value = pending_names.pop()
            if value in visited_names:
                continue
            visited_names.add(value)
            node = makers.get(value)
            if node is None:
                inputs |= {value} & set(self.inputs)
            elif node.op_type not in SHAPES_ONLY:
                pending_names += filter(None, inputs_of(node))
        return inputs

    def before(
        self, name: str, leaves: Collection[str]
    ) -> tuple[list[onnx.NodeProto], list[onnx.TensorProto], list[str]] | None:
        """Find what a value is computed by: nodes, constants, and those of `leaves` that it stops at.

        Returns: None if it reads an input that is not among the leaves, or a node has a graph of its own.
        """
        makers = self._makers()
        nodes, constants, reached_leaves = [], [], []
        visited_names, pending_names = set(), [name]
        while pending_names:
            value = pending_names.pop()
            if value in visited_names:
                continue
            visited_names.add(value)
            node = makers.get(value)
            if value in leaves:
                reached_leaves.append(value)
            elif value in self._constants:
                constants.append(self._constants[value])
            elif node is None or any(entry.type == onnx.AttributeProto.GRAPH for entry in node.attribute):
                return None
            else:
                nodes.append(node)
                pending_names += filter(None, node.input)
        node_ids = {id(node) for node in nodes}
        return [node for node in self.nodes if id(node) in node_ids], constants, reached_leaves

    def _makers(self) -> dict[str, onnx.NodeProto]:
        return {output: node for node in self.nodes for output in node.output}

    def finish(self) -> None:
        """Drop what no output needs, sort the rest so that each value is made before it is read, and check it all."""
        makers = self._makers()
        assert not makers.keys() & self._constants.keys(), "a constant has the name of a value"
        sorted_nodes: list[onnx.NodeProto] = []
        sorted_ids: set[int] = set()
        stack = [(makers[name], False) for name in reversed(self.outputs)]
        while stack:
            node, is_ready = stack.pop()
            if id(node) in sorted_ids:
                continue
            if is_ready:
                sorted_ids.add(id(node))
                sorted_nodes.append(node)
            else:
                stack.append((node, True))
                stack += [(makers[name], False) for name in reversed(inputs_of(node)) if name in makers]
        self.nodes = sorted_nodes
        graph = self.model.graph
        used_names = {name for node in sorted_nodes for name in inputs_of(node)}
        sorted_nodes = [_copy(node) for node in sorted_nodes]
        constants = [_copy(tensor) for name, tensor in self._constants.items() if name in used_names]
        del graph.node[:], graph.initializer[:], graph.value_info[:]
        graph.node.extend(sorted_nodes)
        graph.initializer.extend(constants)
        self.nodes = list(graph.node)
        self._constants = {tensor.name: tensor for tensor in graph.initializer}
        onnx.checker.check_model(self.model, full_check=True)


def inputs_of(node: onnx.NodeProto) -> list[str]:
    """Returns: what a node reads, its branches or its loop included."""
    names = list(node.input)
    for branch in branches(node):
        inner_names = {name for inner_node in branch.node for name in inner_node.output}
        inner_names |= {value.name for value in (*branch.input, *branch.initializer)}
        names += [name for inner_node in branch.node for name in inputs_of(inner_node) if name not in inner_names]
        names += [value.name for value in branch.output if value.name not in inner_names]
    return names


def replace_input(node: onnx.NodeProto, old: str, new: str) -> None:
    """Let a node, its branches or its loop included, read `new` instead of `old`; a model uses no name twice."""
    for position, name in enumerate(node.input):
        if name == old:
            node.input[position] = new
    for branch in branches(node):
        for inner_node in branch.node:
            replace_input(inner_node, old, new)


def branches(node: onnx.NodeProto) -> list[onnx.GraphProto]:
    """Returns: the graphs that a node holds, of which only the standard operators for control flow have any."""
    if node.op_type not in CONTROL_FLOW:  # attributes are slow to go through
        return []
    return [entry.g for entry in node.attribute if entry.type == onnx.AttributeProto.GRAPH]


def attribute(node: onnx.NodeProto, name: str, default: object = None) -> object:
    values = (helper.get_attribute_value(entry) for entry in node.attribute if entry.name == name)
    return next(values, default)


def _copy(proto: Proto) -> Proto:
    copy = type(proto)()
    copy.CopyFrom(proto)
    return copy
