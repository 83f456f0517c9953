"""Where the head reads the first token alone, the last layer computes that token alone."""

import onnx

from export.graph.graph import Graph, attribute, replace_input
from export.graph.rewrites.attention import find_attention


def first_token_only(graph: Graph) -> bool:
    """Needs `tokens_first`. Keys and values of the last layer still come from all tokens."""
    found = find_attention(graph)
    state = _state_before_head(graph)
    if not found or state is None:
        return False
    attention = found[-1]
    given = attention.query.linear.source(graph)
    residual, maker = _residual(graph, given), graph.producer(given)
    if residual is None or maker is None or maker.op_type == "Slice":
        return False
    start, end, axis = graph.integers(0), graph.integers(1), graph.integers(0)
    first = graph.add("Slice", [given, start, end, axis], f"{given}_first")
    attention.query.linear.read(graph, first)
    replace_input(residual, given, first)
    return True


def _state_before_head(graph: Graph) -> str | None:
    """The last state with the batch first, if nobody reads anything of it but the first token."""
    norms = [node for node in graph.nodes if node.op_type == "LayerNormalization"]
    names = {node.output[0] for node in norms[-1:]}
    turned = [
        node
        for node in graph.nodes
        if node.op_type == "Transpose" and attribute(node, "perm") == [1, 0, 2] and graph.sources(node.output[0])
    ]
    for node in turned:
        flat = graph.producer(node.input[0])
        if flat is None or flat.input[0] not in names or node.output[0] in graph.outputs:
            continue
        readers = graph.consumers(node.output[0])
        first = [
            reader.op_type == "Gather"
            and attribute(reader, "axis") == 1
            and graph.is_constant(reader.input[1])
            and int(graph.constant(reader.input[1]).reshape(())) == 0
            for reader in readers
        ]
        if first and all(first):
            return str(node.output[0])
    return None


def _residual(graph: Graph, given: str) -> onnx.NodeProto | None:
    """The addition that carries what an attention was given past it."""
    adds = [node for node in graph.consumers(given) if node.op_type == "Add"]
    return adds[0] if len(adds) == 1 else None
