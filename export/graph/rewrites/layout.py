"""Puts tokens first: states as (seq_len, batch, 1, hidden) instead of (batch, seq_len, hidden).

In this layout onnxruntime reads the heads of queries, keys and values where they lie (its MatmulTransposeFusion), so
that three of four transpositions of an attention take no time. The dimension of 1 keeps its SkipLayerNormFusion away,
whose kernel takes 6 times as long as the addition and LayerNormalization that it replaces (docs/log/graph.md).
"""

import onnx

from export.graph.graph import Graph, attribute
from export.graph.rewrites.attention import KEY_MASK, TOKENS_FIRST, Attention, find_attention

# What may stand between the embeddings and the last state: no operator that cares which dimension is which.
INDIFFERENT = {
    "Add", "Cast", "Div", "DynamicQuantizeLinear", "Erf", "Gelu", "LayerNormalization", "MatMul", "MatMulInteger",
    "Mul", "Relu", "Reshape", "Softmax", "Tanh", "Transpose",
}  # fmt: skip


def tokens_first(graph: Graph) -> bool:
    """Change the layout, unless there is anything unforeseen between embeddings and states.

    Needs `fix_shapes` and `mask_in_keys`.
    """
    layers = find_attention(graph)
    last = last_state(graph)
    lookups = embedding_lookups(graph)
    if not layers or last is None or not _indifferent(graph, last):
        return False
    if any(attention.masked or attribute(attention.turn, "perm") == TOKENS_FIRST[2] for attention in layers):
        return False
    _take_lengths_from_ids(graph)
    for lookup in lookups:
        indices = f"{lookup.input[1]}_tokens_first"
        if graph.producer(indices) is None:
            graph.add("Transpose", [lookup.input[1]], f"{indices}_flat", perm=[1, 0])
            graph.add("Unsqueeze", [f"{indices}_flat", graph.integers(2)], indices)
        lookup.input[1] = indices
    mask = graph.producer("mask_columns")
    assert mask is not None
    mask.input[0] = graph.add("Transpose", ["mask_below"], "mask_tokens_first", perm=[1, 0])
    mask.input[1] = graph.integers(2, 3)
    for attention in layers:
        _turn(graph, attention)
    _batch_first(graph, last)
    return True


def last_state(graph: Graph) -> str | None:
    """Find the output of the last normalization, which the task's head reads."""
    norms = [node.output[0] for node in graph.nodes if node.op_type == "LayerNormalization"]
    return norms[-1] if norms else None


def embedding_lookups(graph: Graph) -> list[onnx.NodeProto]:
    """Find gathers of rows of a constant table, by ids or positions."""
    return [
        node
        for node in graph.nodes
        if node.op_type == "Gather"
        and graph.is_constant(node.input[0])
        and len(graph.dimensions(node.input[0])) == 2
        and attribute(node, "axis", 0) == 0
        and not graph.is_constant(node.input[1])
    ]


def _indifferent(graph: Graph, last: str) -> bool:
    """Whether all between the embeddings' lookups and the last state can do with any order of dimensions."""
    lookups = {id(node) for node in embedding_lookups(graph)}
    pending_names, visited_names = [last], set()
    while pending_names:
        name = pending_names.pop()
        node = graph.producer(name)
        if node is None or name in visited_names or name == KEY_MASK or id(node) in lookups:
            visited_names.add(name)
            continue
        visited_names.add(name)
        if node.op_type not in INDIFFERENT or (node.op_type == "LayerNormalization" and attribute(node, "axis") != -1):
            return False
        pending_names += filter(None, node.input)
    return True


def _take_lengths_from_ids(graph: Graph) -> None:
    """Read batch and length from `input_ids`, whose layout does not change."""
    for node in [node for node in graph.nodes if node.op_type == "Shape" and node.input[0] not in graph.inputs]:
        readers = graph.consumers(node.output[0])
        reads_length = [
            reader.op_type == "Gather"
            and graph.is_constant(reader.input[1])
            and int(graph.constant(reader.input[1]).reshape(())) in (0, 1)
            for reader in readers
        ]
        if reads_length and all(reads_length):
            node.input[0] = "input_ids"


def _turn(graph: Graph, attention: Attention) -> None:
    forward, transposed, back = TOKENS_FIRST
    for node, perm in (
        (attention.query.turn, forward),
        (attention.key.turn, transposed),
        (attention.value.turn, forward),
        (attention.turn, back),
    ):
        _permute(node, perm)
    hidden = attention.value.linear.width(graph)
    attention.join.input[1] = graph.integers(0, 0, 1, hidden)


def _permute(node: onnx.NodeProto, perm: list[int]) -> None:
    del node.attribute[:]
    node.attribute.append(onnx.helper.make_attribute("perm", perm))


def _batch_first(graph: Graph, last: str) -> None:
    """Turn the states back for the head and for whoever else reads them."""
    maker = graph.producer(last)
    assert maker is not None
    states = f"{last}_tokens_first"
    replace_output(maker, last, states)
    squeezed_states = graph.add("Squeeze", [states, graph.integers(2)], f"{last}_flat")
    graph.add("Transpose", [squeezed_states], last, perm=[1, 0, 2])


def replace_output(node: onnx.NodeProto, old: str, new: str) -> None:
    for position, name in enumerate(node.output):
        if name == old:
            node.output[position] = new
