"""Moves outliers of what products read into their weights, so that 8 bits hold the rest more finely.

A few channels of an encoder are many times as large as all others. Dynamic int8 has one scale for a whole value, so
that they take its steps from the others. Divided by what their rows of the weights are multiplied by, they do not: the
product stays the same. After SmoothQuant (Xiao et al. 2022, arXiv:2211.10438), which moves a part of every channel.
"""

from collections.abc import Collection, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import onnx
from numpy.typing import NDArray

from export.graph.graph import Graph
from models.tasks.base import Features
from models.tasks.session import feed, graph_inputs, open_graph

QUANTILE = 0.98  # of a value's channels are no outliers
RECIPROCALS = "_outliers"  # ends the name of the constant that divides
MIN_RATIO = 2.0  # of the largest channel to the quantile, below which the product that divides does not pay


def move_outliers(model: onnx.ModelProto, windows: Sequence[Features], keep: Collection[str] = ()) -> list[str]:
    """Divide the outliers of what MatMul nodes by constant weights read, and multiply their weights, in place.

    Outliers are found by running these windows. Factors are powers of two, so that no float result changes.
    `keep`: names of nodes that stay as they are. Each product must have weights of its own.

    Returns: the names of the nodes whose weights were multiplied.
    """
    graph = Graph(model)
    products = [
        node
        for node in graph.nodes
        if node.op_type == "MatMul" and node.name not in keep and graph.is_constant(node.input[1])
        if len(graph.dimensions(node.input[1])) == 2 and not graph.is_constant(node.input[0])
    ]
    if not windows or not products:
        return []
    changed = []
    for source, largest in largest_channels(model, [node.input[0] for node in products], windows).items():
        factors = outlier_factors(largest)
        if factors is None:
            continue
        divisor = graph.add_constant(f"{source}{RECIPROCALS}", 1 / factors)
        divided = graph.add("Mul", [source, divisor], f"{source}_without_outliers")
        for node in products:
            if node.input[0] == source:
                weight = graph.constant(node.input[1])
                node.input[:] = [divided, graph.add_constant(f"{node.input[1]}_of_outliers", weight * factors[:, None])]
                changed.append(node.name)
    graph.finish()
    return changed


def outlier_factors(largest: NDArray[np.float32]) -> NDArray[np.float32] | None:
    """Choose what to divide each channel by: a power of two for an outlier, 1 for all others; None if none stands out.

    Shapes: (channels,) to the same.
    """
    usual = np.quantile(largest, QUANTILE)
    if not largest.max() >= MIN_RATIO * usual > 0:
        return None
    factors: NDArray[np.float32] = np.exp2(np.rint(np.log2(np.maximum(largest / usual, 1)))).astype(np.float32)
    return factors


def largest_channels(
    model: onnx.ModelProto, values: Sequence[str], windows: Sequence[Features]
) -> dict[str, NDArray[np.float32]]:
    """Run the windows; returns: the largest absolute value of each channel (the last axis), by the names of values."""
    names = list(dict.fromkeys(values))
    watched = onnx.ModelProto()
    watched.CopyFrom(model)
    outputs = {output.name for output in model.graph.output}
    watched.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names if name not in outputs)
    with TemporaryDirectory() as directory:
        path = Path(directory, "watched.onnx")
        onnx.save(watched, path)
        session = open_graph(path, threads=1)
        largest = {name: np.float32(0) for name in names}
        for window in windows:
            results = session.run(names, feed(window, graph_inputs(session)))
            for name, result in zip(names, results, strict=True):
                array = np.asarray(result)
                largest[name] = np.maximum(largest[name], np.abs(array.reshape(-1, array.shape[-1])).max(axis=0))
    return {name: np.asarray(array) for name, array in largest.items()}
