"""Moves work from attention scores to queries and keys, of which there are far fewer."""

import numpy as np

from export.graph.graph import Graph
from export.graph.rewrites.attention import KEY_MASK, find_attention
from export.graph.rewrites.plain import MASKED


def scale_queries(graph: Graph) -> bool:
    """Multiply the query's weights and bias, instead of the scores, by the factor of the scores."""
    has_changed = False
    for attention in find_attention(graph):
        if attention.scaled is None:
            continue
        attention.query.linear.scale(graph, float(graph.constant(attention.scaled.input[1]).reshape(())))
        graph.redirect(attention.scaled.output[0], attention.scores.output[0])
        graph.remove(attention.scaled)
        has_changed = True
    return has_changed


def mask_in_keys(graph: Graph) -> bool:
    """Add the mask in the product of queries and keys: each head of them gets one column more.

    The query's is 1 and the key's what the mask adds to the scores of its token, so their product adds it: one pass
    over (seq_len, hidden) for each layer, where the mask took one over (heads, seq_len, seq_len). 0 where nothing is
    masked.
    """
    has_changed = False
    for attention in find_attention(graph):
        if attention.masked is None:
            continue
        query, key, heads = attention.query, attention.key, attention.heads
        query.linear.widen(graph, heads, 1.0)
        key.linear.widen(graph, heads, 0.0)
        key_mask = _key_mask(graph, heads, key.linear.width(graph) // heads)
        keys = key.linear.bias.output[0]
        key.split.input[0] = graph.add("Add", [keys, key_mask], f"{keys}_masked")
        for operand in (query, key):
            width = operand.linear.width(graph) // heads
            operand.split.input[1] = graph.integers(0, 0, heads, width)
        graph.redirect(attention.masked.output[0], attention.masked.input[0])
        graph.remove(attention.masked)
        has_changed = True
    return has_changed


def _key_mask(graph: Graph, heads: int, width: int) -> str:
    """Make what is added to the keys. Shapes: attention_mask (batch, seq_len) to (batch, seq_len, heads · width)."""
    if graph.producer(KEY_MASK) is None:
        last = np.zeros((heads, width), np.float32)
        last[:, -1] = MASKED
        graph.add("Unsqueeze", ["mask_below", graph.integers(2)], "mask_columns")
        graph.add("Mul", ["mask_columns", graph.add_constant("mask_last", last.reshape(-1))], KEY_MASK)
    return KEY_MASK
