"""Finds self-attention in a graph as optimum exports it, in float or int8, for the rewrites."""

from dataclasses import dataclass

import numpy as np
import onnx

from export.graph.graph import Graph, attribute
from export.graph.rewrites.linear import Linear, match_linear

# How (batch, seq_len, heads, width), or with the tokens first (seq_len, batch, heads, width), become (batch, heads,
# seq_len, width), the key (batch, heads, width, seq_len), and the result goes back.
BATCH_FIRST = ([0, 2, 1, 3], [0, 2, 3, 1], [0, 2, 1, 3])
TOKENS_FIRST = ([1, 2, 0, 3], [1, 2, 3, 0], [2, 0, 1, 3])
KEY_MASK = "key_mask"  # what `mask_in_keys` adds to the keys


@dataclass(frozen=True, slots=True)
class Operand:
    """Query, key or value: a linear layer, split into heads (Reshape) and turned (Transpose)."""

    linear: Linear
    split: onnx.NodeProto
    turn: onnx.NodeProto


@dataclass(frozen=True, slots=True)
class Attention:
    """softmax(query · keyᵀ / divisor, masked) · value, its heads put side by side again (`turn`, `join`).

    `masked` adds to the scores or replaces some of them; `divided` are divisions of the query or the scores.
    """

    query: Operand
    key: Operand
    value: Operand
    scores: onnx.NodeProto
    divided: tuple[onnx.NodeProto, ...]
    masked: onnx.NodeProto | None
    softmax: onnx.NodeProto
    turn: onnx.NodeProto
    join: onnx.NodeProto
    heads: int


def find_attention(graph: Graph) -> list[Attention]:
    """Find attention in the order of the layers; nothing if any softmax of the graph is not part of one."""
    matches = [_match(graph, node) for node in graph.nodes if node.op_type == "Softmax"]
    return [match for match in matches if match is not None] if all(matches) else []


def _match(graph: Graph, softmax: onnx.NodeProto) -> Attention | None:
    divided: list[onnx.NodeProto] = []
    masked = None
    node = graph.producer(softmax.input[0])
    while node is not None and node.op_type in ("Add", "Where", "Div"):
        if node.op_type == "Div":
            divided.append(node)
            node = _divided(graph, node)
        elif masked is None:
            masked, node = node, _unmasked(graph, node)
        else:
            return None
    if node is None or node.op_type != "MatMul":
        return None
    scores, query_end = node, graph.producer(node.input[0])
    if query_end is not None and query_end.op_type == "Div":
        divided.append(query_end)
        query_end = _divided(graph, query_end)
    query = _operand(graph, query_end)
    key = _operand(graph, graph.producer(scores.input[1]))
    product = _only_consumer(graph, softmax.output[0], "MatMul")
    turn = _only_consumer(graph, product.output[0], "Transpose") if product is not None else None
    value = _operand(graph, graph.producer(product.input[1])) if product is not None else None
    if query is None or key is None or value is None or turn is None:
        return None
    joins = [reader for reader in graph.consumers(turn.output[0]) if reader.op_type == "Reshape"]
    perms = tuple(attribute(node, "perm") for node in (query.turn, key.turn, turn))
    heads = _heads(graph, query)
    is_expected = perms in (BATCH_FIRST, TOKENS_FIRST) and attribute(value.turn, "perm") == perms[0]
    if len(joins) != 1 or not is_expected or heads is None:
        return None
    return Attention(query, key, value, scores, tuple(divided), masked, softmax, turn, joins[0], heads)


def _operand(graph: Graph, turn: onnx.NodeProto | None) -> Operand | None:
    if turn is None or turn.op_type != "Transpose":
        return None
    split = graph.producer(turn.input[0])
    if split is None or split.op_type != "Reshape":
        return None
    addition = graph.producer(split.input[0])
    is_masked = addition is not None and KEY_MASK in addition.input
    linear = match_linear(graph, addition.input[0] if addition is not None and is_masked else split.input[0])
    return Operand(linear, split, turn) if linear is not None else None


def _divided(graph: Graph, node: onnx.NodeProto) -> onnx.NodeProto | None:
    """Returns: what is divided by a constant."""
    is_scalar = graph.is_constant(node.input[1]) and graph.constant(node.input[1]).size == 1
    return graph.producer(node.input[0]) if is_scalar else None


def _unmasked(graph: Graph, node: onnx.NodeProto) -> onnx.NodeProto | None:
    """Returns: the scores that a mask is added to or chooses from; None if more than a mask is read."""
    values = list(node.input)[-2:]
    kinds = {"MatMul", "Div"}
    scores = [name for name in values if (maker := graph.producer(name)) is not None and maker.op_type in kinds]
    if len(scores) != 1:
        return None
    mask = [name for name in node.input if name != scores[0]]
    reads = set().union(*(graph.sources(name) for name in mask))
    return graph.producer(scores[0]) if reads == {"attention_mask"} else None


def _only_consumer(graph: Graph, name: str, kind: str) -> onnx.NodeProto | None:
    readers = graph.consumers(name)
    return readers[0] if len(readers) == 1 and readers[0].op_type == kind else None


def _heads(graph: Graph, query: Operand) -> int | None:
    """Read the number of heads from the shape (batch, seq_len, heads, width) that splits them."""
    shape = query.split.input[1]
    if graph.is_constant(shape):
        return int(graph.constant(shape)[2])
    maker = graph.producer(shape)
    if maker is None or maker.op_type != "Concat" or len(maker.input) != 4 or not graph.is_constant(maker.input[2]):
        return None
    return int(np.asarray(graph.constant(maker.input[2])).reshape(-1)[0])
