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
    "Mul", "Pow", "Relu", "Reshape", "Softmax", "Sub", "Tanh", "Transpose",
}  # fmt: skip


def tokens_first(graph: Graph) -> bool:
    """Change the layout, unless there is anything unforeseen between embeddings and states.

    Needs `plain_attention` and `mask_in_keys`.
    """
    layers = find_attention(graph)
    last = last_state(graph)
    if not layers or last is None:
        return False
    if any(attention.masked or attribute(attention.turn, "perm") == TOKENS_FIRST[2] for attention in layers):
        return False
    between = _between(graph, last, layers)
    if between is None or not _take_lengths_from_ids(graph, between):
        return False
    for lookup in [node for node in between if _looks_up_embeddings(graph, node)]:
        indices = f"{lookup.input[1]}_tokens_first"
        if graph.producer(indices) is None:
            graph.add("Transpose", [lookup.input[1]], f"{indices}_flat", perm=[1, 0])
            graph.add("Unsqueeze", [f"{indices}_flat", graph.integers(2)], indices)
        lookup.input[1] = indices
    mask = graph.producer("mask_columns")
    if mask is not None:
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


def _looks_up_embeddings(graph: Graph, node: onnx.NodeProto) -> bool:
    """Whether a node gathers rows of a constant table, by ids or positions."""
    return (
        node.op_type == "Gather"
        and graph.is_constant(node.input[0])
        and len(graph.dimensions(node.input[0])) == 2
        and attribute(node, "axis", 0) == 0
        and not graph.is_constant(node.input[1])
    )


def _between(graph: Graph, last: str, layers: list[Attention]) -> list[onnx.NodeProto] | None:
    """Find the nodes between the ids (or positions) and the last state, lookups of embeddings among them.

    Returns: None if one of them cares for the order of dimensions, or what it computes is read elsewhere.
    """
    ends = {KEY_MASK, *(attention.biased.input[1] for attention in layers if attention.biased is not None)}
    nodes, visited_names, pending_names = [], set(), [last]
    while pending_names:
        name = pending_names.pop()
        node = graph.producer(name)
        if node is None or name in visited_names or name in ends:
            continue
        visited_names.add(name)
        nodes.append(node)
        if _looks_up_embeddings(graph, node):
            continue
        if node.op_type not in INDIFFERENT or (node.op_type == "LayerNormalization" and attribute(node, "axis") != -1):
            return None
        pending_names += filter(None, node.input)
    node_ids = {id(node) for node in nodes}
    for name in visited_names - {last}:
        strangers = [reader for reader in graph.consumers(name) if id(reader) not in node_ids]
        if name in graph.outputs or any(reader.op_type != "Shape" for reader in strangers):
            return None
    return nodes


def _take_lengths_from_ids(graph: Graph, nodes: list[onnx.NodeProto]) -> bool:
    """Read batch and length from `input_ids`, whose layout does not change.

    Returns: False, and changes nothing, if more than these two is read of a value that will change its layout.
    """
    names = {name for node in nodes for name in node.output}
    shapes = [node for node in graph.nodes if node.op_type == "Shape" and node.input[0] in names]
    if not all(_reads_batch_and_length(graph, node) for node in shapes):
        return False
    for node in shapes:
        node.input[0] = "input_ids"
    return True


def _reads_batch_and_length(graph: Graph, shape: onnx.NodeProto) -> bool:
    start, end = attribute(shape, "start", 0), attribute(shape, "end")
    if (start, end) != (0, None):
        return (start, end) in ((0, 1), (1, 2), (0, 2))
    return all(
        reader.op_type == "Gather"
        and graph.is_constant(reader.input[1])
        and set(graph.constant(reader.input[1]).reshape(-1)) <= {0, 1}
        for reader in graph.consumers(shape.output[0])
    )


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
    maker.name = states  # names of nodes are unique, and the transposition below takes the name of its output
    squeezed_states = graph.add("Squeeze", [states, graph.integers(2)], f"{last}_flat")
    graph.add("Transpose", [squeezed_states], last, perm=[1, 0, 2])


def replace_output(node: onnx.NodeProto, old: str, new: str) -> None:
    for position, name in enumerate(node.output):
        if name == old:
            node.output[position] = new
