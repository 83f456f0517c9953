"""Lets the last layer compute only the first token, where the head reads no other."""

import onnx

from export.graph.graph import Graph, attribute, replace_input
from export.graph.rewrites.attention import find_attention
from export.graph.rewrites.linear import before_division


def first_token_only(graph: Graph) -> bool:
    """Slice query and residual of the last layer; keys and values come from all tokens. Needs `tokens_first`."""
    layers = find_attention(graph)
    state = _state_before_head(graph)
    if not layers or state is None:
        return False
    attention = layers[-1]
    states, reciprocals = before_division(graph, attention.query.linear.source(graph))
    residual, maker = _residual(graph, states), graph.producer(states)
    if residual is None or maker is None or maker.op_type == "Slice":
        return False
    start, end, axis = graph.integers(0), graph.integers(1), graph.integers(0)
    first_token = graph.add("Slice", [states, start, end, axis], f"{states}_first")
    divided = graph.add("Mul", [first_token, reciprocals], f"{first_token}_divided") if reciprocals else first_token
    attention.query.linear.read(graph, divided)
    replace_input(residual, states, first_token)
    return True


def _state_before_head(graph: Graph) -> str | None:
    """Find the last state with the batch first, if only its first token is read."""
    norms = [node for node in graph.nodes if node.op_type == "LayerNormalization"]
    names = {node.output[0] for node in norms[-1:]}
    transposes = [
        node
        for node in graph.nodes
        if node.op_type == "Transpose" and attribute(node, "perm") == [1, 0, 2] and graph.sources(node.output[0])
    ]
    for node in transposes:
        squeeze = graph.producer(node.input[0])
        if squeeze is None or squeeze.input[0] not in names or node.output[0] in graph.outputs:
            continue
        readers = graph.consumers(node.output[0])
        reads_first_token = [
            reader.op_type == "Gather"
            and attribute(reader, "axis") == 1
            and graph.is_constant(reader.input[1])
            and int(graph.constant(reader.input[1]).reshape(())) == 0
            for reader in readers
        ]
        if reads_first_token and all(reads_first_token):
            return str(node.output[0])
    return None


def _residual(graph: Graph, states: str) -> onnx.NodeProto | None:
    """Find the addition that carries the states which an attention reads past it."""
    adds = [node for node in graph.consumers(states) if node.op_type == "Add"]
    return adds[0] if len(adds) == 1 else None
