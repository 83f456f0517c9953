"""Finds self-attention in its plain form, in float or int8, for the rewrites."""

from dataclasses import dataclass

import onnx

from export.graph.graph import Graph, attribute
from export.graph.rewrites.linear import Linear, match_linear

# How (batch, seq_len, heads, width), or with the tokens first (seq_len, batch, heads, width), become (batch, heads,
# seq_len, width), the key (batch, heads, width, seq_len), and the result goes back.
BATCH_FIRST = ([0, 2, 1, 3], [0, 2, 3, 1], [0, 2, 1, 3])
TOKENS_FIRST = ([1, 2, 0, 3], [1, 2, 3, 0], [2, 0, 1, 3])
SCORES_MASK = "scores_mask"  # what `plain_attention` adds to the scores
KEY_MASK = "key_mask"  # what `mask_in_keys` adds to the keys


@dataclass(frozen=True, slots=True)
class Operand:
    """Query, key or value: a linear layer, split into heads (Reshape) and turned (Transpose)."""

    linear: Linear
    split: onnx.NodeProto
    turn: onnx.NodeProto


@dataclass(frozen=True, slots=True)
class Attention:
    """softmax(query · keyᵀ · factor + bias + mask) · value, its heads put side by side again (`turn`, `join`).

    `scaled` multiplies the scores by a constant; `biased` adds what depends on positions alone; `masked` adds the mask.
    """

    query: Operand
    key: Operand
    value: Operand
    scores: onnx.NodeProto
    scaled: onnx.NodeProto | None
    biased: onnx.NodeProto | None
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
    scores = graph.producer(softmax.input[0])
    masked = biased = scaled = None
    if scores is not None and scores.op_type == "Add" and scores.input[1] == SCORES_MASK:
        masked, scores = scores, graph.producer(scores.input[0])
    if scores is not None and scores.op_type == "Add" and not graph.sources(scores.input[1]):
        biased, scores = scores, graph.producer(scores.input[0])
    if scores is not None and scores.op_type == "Mul" and _is_scalar(graph, scores.input[1]):
        scaled, scores = scores, graph.producer(scores.input[0])
    product = _only_consumer(graph, softmax.output[0], "MatMul")
    turn = _only_consumer(graph, product.output[0], "Transpose") if product is not None else None
    join = _only_consumer(graph, turn.output[0], "Reshape") if turn is not None else None
    if scores is None or scores.op_type != "MatMul" or product is None or turn is None or join is None:
        return None
    query, key, value = (
        _operand(graph, graph.producer(name)) for name in (scores.input[0], scores.input[1], product.input[1])
    )
    if query is None or key is None or value is None:
        return None
    perms = tuple(attribute(node, "perm") for node in (query.turn, key.turn, turn))
    if perms not in (BATCH_FIRST, TOKENS_FIRST) or attribute(value.turn, "perm") != perms[0]:
        return None
    heads = int(graph.constant(query.split.input[1])[2])
    return Attention(query, key, value, scores, scaled, biased, masked, softmax, turn, join, heads)


def _operand(graph: Graph, turn: onnx.NodeProto | None) -> Operand | None:
    """Find a linear layer that nothing else reads, so that it may be changed."""
    split = graph.producer(turn.input[0]) if turn is not None and turn.op_type == "Transpose" else None
    if turn is None or split is None or split.op_type != "Reshape" or not graph.is_constant(split.input[1]):
        return None
    shape = list(graph.constant(split.input[1]))
    addition = graph.producer(split.input[0])
    is_masked = addition is not None and KEY_MASK in addition.input
    result = addition.input[0] if addition is not None and is_masked else split.input[0]
    linear = match_linear(graph, result)
    if linear is None or shape[:2] != [0, 0] or len(shape) != 4 or len(graph.consumers(result)) != 1:
        return None
    return Operand(linear, split, turn)


def _is_scalar(graph: Graph, name: str) -> bool:
    return graph.is_constant(name) and graph.constant(name).size == 1


def _only_consumer(graph: Graph, name: str, kind: str) -> onnx.NodeProto | None:
    readers = graph.consumers(name)
    return readers[0] if len(readers) == 1 and readers[0].op_type == kind else None
