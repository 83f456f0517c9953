"""Applies all rewrites, in the order in which one needs another."""

from collections.abc import Callable, Collection

import onnx

from export.graph.graph import Graph
from export.graph.rewrites.first import first_token_only
from export.graph.rewrites.layout import tokens_first
from export.graph.rewrites.operators import plain_operators
from export.graph.rewrites.plain import plain_attention
from export.graph.rewrites.scores import mask_in_keys, scale_queries
from export.graph.rewrites.shapes import fold_constants
from models.tasks.bundle import DISABLED_OPTIMIZERS
from models.tasks.directory.graph import Precision

OPSET = 13  # the lowest whose Unsqueeze and Squeeze read their axes as the rewrites write them

REWRITES: dict[str, Callable[[Graph], bool]] = {
    "fold_constants": fold_constants,
    "plain_operators": plain_operators,
    "plain_attention": plain_attention,
    "scale_queries": scale_queries,
    "mask_in_keys": mask_in_keys,
    "tokens_first": tokens_first,
    "first_token_only": first_token_only,
}


def disabled_optimizers(rewrites: Collection[str], precision: Precision) -> tuple[str, ...]:
    """Name the fusions that onnxruntime must leave out: none where the graph's layout already prevents them."""
    return () if "tokens_first" in rewrites else tuple(sorted(DISABLED_OPTIMIZERS[precision]))


def rewrite(model: onnx.ModelProto) -> tuple[str, ...]:
    """Change a graph in place; returns the names of the rewrites that found something to do: none below `OPSET`."""
    graph = Graph(model)
    if graph.opset < OPSET:
        return ()
    names = []
    for name, change in REWRITES.items():
        if change(graph):
            graph.finish()
            names.append(name)
    return tuple(names)
