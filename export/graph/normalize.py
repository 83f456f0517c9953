"""Brings a graph that was exported elsewhere into the form in which our own export writes one."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import count

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper, version_converter

from export.checkpoint import ExportError
from export.graph.graph import Graph, attribute, branches, replace_input

OPSET = 18  # of our own export: ReduceSum and its kin take their axes as an input from here on
IR_VERSION = 8  # from 4 on, a constant is no input of the graph
STANDARD_DOMAINS = {"", "ai.onnx"}
HALF_TYPES = {TensorProto.FLOAT16, TensorProto.BFLOAT16}
TYPE_ATTRIBUTES = {"to", "dtype", "output_dtype"}
QUANTIZED_PARTS = ("Quantize", "Integer", "QLinear", "NBits", "Bnb4", "QAttention", "QGemm", "QOrdered")

COPYING = {"Cast", "Identity", "Reshape", "Squeeze", "Unsqueeze", "Flatten"}  # what leaves numbers as they are
PROBABILITIES = {"Softmax", "Sigmoid", "HardSigmoid"}

IDS, MASK, TYPES, POSITIONS = "input_ids", "attention_mask", "token_type_ids", "position_ids"
ALIASES = {"input_word_ids": IDS, "input_mask": MASK, "segment_ids": TYPES, "input_type_ids": TYPES}  # TensorFlow's
AXES = ("batch_size", "sequence_length")

Roles = Mapping[str, str]
"""What each input of a graph is for: IDS, MASK, TYPES or POSITIONS."""


def check_operators(model: onnx.ModelProto) -> None:
    """Refuse what cannot be rewritten and quantized, or was already. Raises: ExportError without the file's name."""
    nodes = [node for graph in _subgraphs(model.graph) for node in graph.node]
    if quantized := _kinds(node for node in nodes if any(part in node.op_type for part in QUANTIZED_PARTS)):
        raise ExportError(
            f"is quantized already ({quantized}), and int8 is made from float alone; give the model in float32, "
            "or serve this directory as it is"
        )
    if fused := _kinds(node for node in nodes if node.domain not in STANDARD_DOMAINS):
        raise ExportError(
            f"was optimised for one runtime already ({fused}); export it again without -O2, -O3 or --optimize, "
            "or serve this directory as it is"
        )


def _kinds(nodes: Iterator[onnx.NodeProto]) -> str:
    return ", ".join(sorted({node.op_type for node in nodes}))


def input_roles(graph: onnx.GraphProto, config: Mapping[str, object]) -> dict[str, str]:
    """Tell what each input is for, by its name, or else by the embedding table that it looks up.

    Raises: ExportError without the file's name.
    """
    constants = {tensor.name: tensor for tensor in graph.initializer}
    names = [value.name for value in graph.input if value.name not in constants]
    rows = {size: role for role, key in _TABLES if isinstance(size := config.get(key), int)}
    roles = {}
    for name in names:
        plain_name = name.partition(":")[0].removeprefix("serving_default_")
        role = ALIASES.get(plain_name, plain_name)
        if role not in (IDS, MASK, TYPES, POSITIONS):
            tables = {rows.get(constants[table].dims[0]) for table in _tables_of(graph, name) if table in constants}
            role = tables.pop() if len(tables) == 1 else None
        roles[name] = role
    unknown_names = [name for name in names if roles[name] is None]
    if len(unknown_names) == 1 and IDS in roles.values() and MASK not in roles.values():
        roles[unknown_names.pop()] = MASK  # the one input that looks up nothing
    known = list(filter(None, roles.values()))
    if unknown_names or IDS not in known or len(set(known)) < len(known):
        raise ExportError(
            f"takes {', '.join(names) or 'no inputs'}, which are not those of a text encoder; "
            f"give a graph with {IDS}, {MASK} and, if it reads them, {TYPES} and {POSITIONS}"
        )
    return {name: role for name, role in roles.items() if role is not None}


_TABLES = ((POSITIONS, "max_position_embeddings"), (TYPES, "type_vocab_size"), (IDS, "vocab_size"))


def _tables_of(graph: onnx.GraphProto, name: str) -> list[str]:
    """Find the tables of which a value looks up rows."""
    tables, pending_names = [], [name]
    while pending_names:
        value = pending_names.pop()
        for node in graph.node:
            if value in node.input and node.op_type in ("Cast", "Identity"):
                pending_names.append(node.output[0])
            elif node.op_type == "Gather" and node.input[1] == value:
                tables.append(node.input[0])
    return tables


def check_shapes(graph: onnx.GraphProto, roles: Roles) -> None:
    """Refuse fixed lengths. Raises: ExportError without the file's name."""
    for value in graph.input:
        sizes = [axis.dim_value for axis in value.type.tensor_type.shape.dim]
        if value.name in roles and any(sizes):
            shape = " by ".join(str(size) if size else "any" for size in sizes)
            raise ExportError(
                f"takes {value.name} of the fixed size {shape}; export it again with dynamic axes for batch and length"
            )


def check_logits(graph: onnx.GraphProto, names: Sequence[str]) -> None:
    """Refuse outputs that are probabilities already, of which another softmax would be taken.

    Raises: ExportError without the file's name.
    """
    makers = {name: node for node in graph.node for name in node.output}
    for name in names:
        maker = makers.get(name)
        while maker is not None and maker.op_type in COPYING:
            maker = makers.get(maker.input[0])
        if maker is not None and maker.op_type in PROBABILITIES:
            raise ExportError(
                f"gives {name}, which is the result of {maker.op_type}, where logits are read; export the model without"
                " it"
            )


@dataclass(frozen=True, slots=True)
class Output:
    """An output that is kept: its name, the one it gets, and its shape, by name where a size is not fixed."""

    name: str
    new_name: str
    shape: tuple[str | int, ...]


def normalize(model: onnx.ModelProto, roles: Roles, outputs: Sequence[Output], padding: int | None) -> None:
    """Give a graph our opset, types and names, in place.

    `padding`: the id of the padding, where positions are counted from behind it; None where they are counted from 0.
    Raises: ExportError without the file's name.
    """
    _drop_constant_inputs(model)
    _widen_halves(model)
    _convert_opset(model)
    new_names = {**roles, **{output.name: output.new_name for output in outputs}}
    _rename(model, {old: new for old, new in new_names.items() if old != new})
    del model.graph.output[:]
    model.graph.output.extend(
        helper.make_tensor_value_info(output.new_name, TensorProto.FLOAT, output.shape) for output in outputs
    )
    graph = Graph(model)
    _name_nodes(graph)
    for value in list(model.graph.input):
        _take_integers(graph, value)
    if POSITIONS in roles.values():
        _count_positions(graph, padding)
    graph.finish()


def _drop_constant_inputs(model: onnx.ModelProto) -> None:
    """Let constants be constants: older files list them among the inputs, as defaults that a caller may replace."""
    constants = {tensor.name for tensor in model.graph.initializer}
    inputs = [value for value in model.graph.input if value.name not in constants]
    del model.graph.input[:]
    model.graph.input.extend(inputs)
    model.ir_version = max(model.ir_version, IR_VERSION)


def _widen_halves(model: onnx.ModelProto) -> None:
    """Make float32 of float16 and bfloat16: each of their values is one of float32 too."""
    has_changed = False
    for graph in _subgraphs(model.graph):
        attributes = [entry for node in graph.node for entry in node.attribute]
        tensors = [*graph.initializer, *(entry.t for entry in attributes), *(t for e in attributes for t in e.tensors)]
        for tensor in tensors:
            if tensor.data_type in HALF_TYPES:
                array = numpy_helper.to_array(tensor).astype(np.float32)
                tensor.CopyFrom(numpy_helper.from_array(array, tensor.name))
                has_changed = True
        for entry in attributes:
            if entry.name in TYPE_ATTRIBUTES and entry.i in HALF_TYPES:
                entry.i = TensorProto.FLOAT
                has_changed = True
        for value in [*graph.input, *graph.output]:
            if value.type.tensor_type.elem_type in HALF_TYPES:
                value.type.tensor_type.elem_type = TensorProto.FLOAT
                has_changed = True
        del graph.value_info[:]
    if has_changed:
        _drop_empty_casts(model)


def _drop_empty_casts(model: onnx.ModelProto) -> None:
    """Remove the casts of float to float, which hide from the rewrites what they look for."""
    inferred = onnx.shape_inference.infer_shapes(model).graph
    values = [*inferred.value_info, *inferred.input]
    floats = {value.name for value in values if value.type.tensor_type.elem_type == TensorProto.FLOAT}
    floats |= {tensor.name for tensor in inferred.initializer if tensor.data_type == TensorProto.FLOAT}
    graph = Graph(model)
    for node in list(graph.nodes):
        if node.op_type != "Cast" or attribute(node, "to") != TensorProto.FLOAT or node.input[0] not in floats:
            continue
        source, result = node.input[0], node.output[0]
        maker = graph.producer(source)
        if result not in graph.outputs:
            graph.redirect(result, source)
        elif maker is not None and source not in graph.outputs:
            graph.remove(node)
            graph.redirect(source, result)
            maker.output[:] = [result if name == source else name for name in maker.output]
    graph.finish()


def _convert_opset(model: onnx.ModelProto) -> None:
    """Raise the version of the standard operators to ours; a later one stays."""
    version = opset_of(model)
    if version >= OPSET:
        return
    try:
        model.CopyFrom(version_converter.convert_version(model, OPSET))
    except Exception as error:  # of C++, without a class of their own
        reason = str(error).partition("\n")[0]
        raise ExportError(
            f"has opset {version}, which cannot be converted ({reason}); export it again with --opset {OPSET}"
        ) from error


def opset_of(model: onnx.ModelProto) -> int:
    """Read the version of the standard operators that a graph is made of."""
    number: int = next((entry.version for entry in model.opset_import if entry.domain in STANDARD_DOMAINS), 0)
    return number


def _name_nodes(graph: Graph) -> None:
    """Give every node a name of its own: the quantizer tells them apart by their names."""
    names: set[str] = set()
    for node in graph.nodes:
        base = node.name or f"{node.op_type}_{node.output[0]}"
        node.name = next(name for number in count() if (name := f"{base}_{number}" if number else base) not in names)
        names.add(node.name)


def _take_integers(graph: Graph, value: onnx.ValueInfoProto) -> None:
    """Let an input be int64 of any size, whatever type the graph goes on with."""
    name, kind = value.name, value.type.tensor_type.elem_type
    value.CopyFrom(helper.make_tensor_value_info(name, TensorProto.INT64, AXES))
    if kind == TensorProto.INT64:
        return
    readers = graph.consumers(name)
    cast = graph.add("Cast", [name], f"{name}_cast", to=kind)
    for node in readers:
        looks_up = node.op_type == "Gather" and node.input[0] != name
        if node.op_type not in ("Cast", "Shape") and not looks_up:  # these read integers of 32 and of 64 bits alike
            replace_input(node, name, cast)


def _count_positions(graph: Graph, padding: int | None) -> None:
    """Compute the positions from the ids: 0, 1, ...; or from behind the padding's id, which they skip.

    Shapes: (batch, seq_len).
    """
    inputs = graph.model.graph.input
    inputs.remove(next(value for value in inputs if value.name == POSITIONS))
    axis = graph.add_constant("position_axis", np.array(1, np.int64))
    if padding is None:
        zero = graph.add_constant("position_zero", np.array(0, np.int64))
        graph.add("Shape", [IDS], "position_shape")
        graph.add("Gather", ["position_shape", axis], "position_count")
        graph.add("Range", [zero, "position_count", axis], "position_range")  # by steps of one
        graph.add("Expand", ["position_range", "position_shape"], POSITIONS)
        return
    padding_id = graph.add_constant("position_pad_id", np.array(padding, np.int64))
    graph.add("Equal", [IDS, padding_id], "position_is_pad")
    graph.add("Not", ["position_is_pad"], "position_is_token")
    graph.add("Cast", ["position_is_token"], "position_tokens", to=TensorProto.INT64)
    graph.add("CumSum", ["position_tokens", axis], "position_sums")
    graph.add("Mul", ["position_sums", "position_tokens"], "position_kept")
    graph.add("Add", ["position_kept", padding_id], POSITIONS)


def _rename(model: onnx.ModelProto, new_names: Mapping[str, str]) -> None:
    """Give values other names; one inside that has such a name already gets a number."""
    graphs = list(_subgraphs(model.graph))
    taken_names = {name for graph in graphs for node in graph.node for name in (*node.input, *node.output)}
    names = dict(new_names)
    for name in set(new_names.values()) & taken_names - set(new_names):
        names[name] = next(other for number in count(1) if (other := f"{name}_{number}") not in taken_names)
    for graph in graphs:
        for node in graph.node:
            for values in (node.input, node.output):
                values[:] = [names.get(name, name) for name in values]
        for value in (*graph.input, *graph.output, *graph.initializer):
            value.name = names.get(value.name, value.name)


def _subgraphs(graph: onnx.GraphProto) -> Iterator[onnx.GraphProto]:
    """Go through a graph and the branches and loops in it."""
    yield graph
    for node in graph.node:
        for branch in branches(node):
            yield from _subgraphs(branch)
