"""Shapes that are known, said as constants: no run needs to compute them."""

from export.graph import Graph
from export.rewrites.attention import find_attention


def fix_shapes(graph: Graph) -> bool:
    """Heads are split and joined by constant shapes (0 keeps a dimension); lengths come from `input_ids` alone."""
    changed = False
    for attention in find_attention(graph):
        if graph.is_constant(attention.join.input[1]):
            continue
        for operand in (attention.query, attention.key, attention.value):
            width = operand.linear.width(graph) // attention.heads
            operand.split.input[1] = graph.integers(0, 0, attention.heads, width)
        hidden = attention.value.linear.width(graph)
        attention.join.input[1] = graph.integers(0, 0, hidden)
        changed = True
    return changed
