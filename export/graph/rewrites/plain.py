"""Writes attention in one plain form, however an exporter traced it."""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import onnx
from onnx import helper

from export.graph.graph import Array, Graph
from export.graph.probe import evaluate
from export.graph.rewrites.attention import BATCH_FIRST, SCORES_MASK, find_attention
from export.graph.rewrites.linear import Linear, before_division, match_linear

MASKED = 1e5  # far below every score: exp of the difference is 0 in float32
MASKS_BELOW = -1e3  # exporters add -inf, the least float or -10,000
SIZES = ((2, 5), (3, 7))  # (batch, seq_len) that pieces of a graph are run on
SQUARE = ("length", "length")
LONG = (1, 1030)  # a window of attention shows itself only in a text that is longer

# What exporters put between a product and its softmax, between a softmax and the next product, and around products.
BEFORE_SOFTMAX = {"Add", "Cast", "Div", "Identity", "Max", "Mul", "Where"}
AFTER_SOFTMAX = {"Cast", "Identity", "Where"}
AROUND_PRODUCTS = {"Cast", "Div", "Identity", "Mul", "Reshape", "Squeeze", "Transpose", "Unsqueeze"}


@dataclass(frozen=True, slots=True)
class Traced:
    """softmax(factor · query · keyᵀ + bias + mask) · value, as some exporter wrote it.

    Names of values: `query`, `key`, `value` and `result` (batch, seq_len, heads · width); `bias`, where there is one,
    (1, heads, seq_len, seq_len), which depends on the length alone.
    """

    query: str
    key: str
    value: str
    result: str
    heads: int
    width: int
    factor: float
    bias: str | None
    is_masked: bool


def plain_attention(graph: Graph) -> bool:
    """Split and join heads by constant shapes, multiply scores by one constant, add a mask of (batch, 1, 1, seq_len).

    Exporters divide queries or scores, or multiply queries and keys by the root of the factor; they add the mask or
    choose by it, for each query or once; they turn keys by one node or by four. What a piece of the graph computes is
    found out by running it, so its form does not matter.
    """
    if find_attention(graph):
        return False
    softmaxes = [node for node in graph.nodes if node.op_type == "Softmax"]
    pieces = _Pieces(graph)
    layers = [traced for softmax in softmaxes if (traced := _recognize(graph, softmax, pieces)) is not None]
    if len(layers) < len(softmaxes):
        return False
    for traced in layers:
        _write(graph, traced)
    return bool(layers)


def _recognize(graph: Graph, softmax: onnx.NodeProto, pieces: "_Pieces") -> Traced | None:
    scores = next(_products_above(graph, softmax.input[0]), None)
    product = next(_products_below(graph, softmax.output[0]), None)
    if scores is None or product is None:
        return None
    ends = (scores.input[0], scores.input[1], product.input[1])
    operands = [found for end in ends if (found := next(_linears_above(graph, end), None)) is not None]
    if len(operands) < len(ends):
        return None
    (query, linear), (key, _), (value, _) = operands
    hidden = linear.width(graph)
    heads = pieces.heads(query, ends[0], hidden)
    if heads is None:
        return None
    width = hidden // heads
    states, by_head, weights = ("batch", "length", hidden), ("batch", heads, "length", width), ("batch", heads, *SQUARE)

    def split(array: Array) -> Array:
        return array.reshape(*array.shape[:2], heads, width).transpose(BATCH_FIRST[0])

    def turned(array: Array) -> Array:
        return array.reshape(*array.shape[:2], heads, width).transpose(BATCH_FIRST[1])

    def joined(array: Array) -> Array:
        return array.transpose(BATCH_FIRST[2]).reshape(array.shape[0], -1, hidden)

    results = _values_below(graph, product.output[0])
    result = next((name for name in results if _is(1, pieces.factor(product.output[0], name, by_head, joined))), None)
    units = (
        pieces.factor(value, ends[2], states, split),
        pieces.factor(softmax.output[0], product.input[0], weights, lambda array: array),
    )
    factors = (pieces.factor(query, ends[0], states, split), pieces.factor(key, ends[1], states, turned))
    biases = (None, *_biases_above(graph, softmax.input[0]))
    maskings = (pieces.masking(scores.output[0], softmax.input[0], heads, bias) for bias in biases)
    masking = next(filter(None, maskings), None)
    if result is None or masking is None or None in factors or not all(_is(1, unit) for unit in units):
        return None
    factor = masking.factor * math.prod(factor for factor in factors if factor is not None)
    usual_factor = 1 / math.sqrt(width)  # of which the product of its roots in float32 is the last bit away
    factor = usual_factor if _is(usual_factor, factor) else factor
    return Traced(query, key, value, result, heads, width, factor, masking.bias, masking.is_masked)


def _write(graph: Graph, traced: Traced) -> None:
    base, heads, width = traced.result, traced.heads, traced.width
    operands = []
    for part, source, order in zip(
        ("query", "key", "value"),
        (traced.query, traced.key, traced.value),
        (*BATCH_FIRST[:2], BATCH_FIRST[0]),
        strict=True,
    ):
        split = graph.add("Reshape", [source, graph.integers(0, 0, heads, width)], f"{base}_{part}_split")
        operands.append(graph.add("Transpose", [split], f"{base}_{part}", perm=order))
    query, key, value = operands
    scores = graph.add("MatMul", [query, key], f"{base}_scores")
    if traced.factor != 1:
        factor = graph.add_constant(f"{base}_factor", np.float32(traced.factor))
        scores = graph.add("Mul", [scores, factor], f"{base}_scaled")
    if traced.bias is not None:
        scores = graph.add("Add", [scores, traced.bias], f"{base}_biased")
    if traced.is_masked:
        scores = graph.add("Add", [scores, _scores_mask(graph)], f"{base}_masked")
    weights = graph.add("Softmax", [scores], f"{base}_weights", axis=-1)
    context = graph.add("MatMul", [weights, value], f"{base}_context")
    turned = graph.add("Transpose", [context], f"{base}_turned", perm=BATCH_FIRST[2])
    joined = graph.add("Reshape", [turned, graph.integers(0, 0, heads * width)], f"{base}_joined")
    graph.redirect(traced.result, joined)


def _scores_mask(graph: Graph) -> str:
    """Make what is added to the scores. Shapes: attention_mask (batch, seq_len) to (batch, 1, 1, seq_len)."""
    if graph.producer(SCORES_MASK) is None:
        graph.add("Cast", ["attention_mask"], "mask_float", to=onnx.TensorProto.FLOAT)
        graph.add("Sub", ["mask_float", graph.add_constant("mask_kept", np.float32(1))], "mask_below")
        graph.add("Unsqueeze", ["mask_below", graph.integers(1, 2)], "mask_of_all_queries")
        graph.add("Mul", ["mask_of_all_queries", graph.add_constant("mask_masked", np.float32(MASKED))], SCORES_MASK)
    return SCORES_MASK


@dataclass(frozen=True, slots=True)
class Masking:
    """What is done to scores: `factor · scores + bias`, and far less for masked tokens."""

    factor: float
    bias: str | None
    is_masked: bool


class _Pieces:
    """Runs pieces of an attention on random values. What linear layers read stands for all that comes before.

    That is of every layer: transformers 5 takes the mask's shape from the first states, and a text longer than the
    positions has none.
    """

    def __init__(self, graph: Graph) -> None:
        self._graph = graph
        linears = [linear for node in graph.nodes if (linear := match_linear(graph, node.output[0])) is not None]
        self._depths = {
            linear.source(graph): linear.depth(graph)
            for linear in linears
            if graph.producer(linear.product.input[0]) is not None  # DeBERTa's positions are constants
        }
        self._depths |= {before_division(graph, name)[0]: depth for name, depth in self._depths.items()}
        self._random = np.random.default_rng(0)

    def heads(self, query: str, split: str, hidden: int) -> int | None:
        """Find out into how many heads the query, `hidden` wide, is split."""
        batch, length = SIZES[0]
        array = self._run(split, batch, length, {query: np.zeros((batch, length, hidden), np.float32)})
        return array.shape[1] if array is not None and array.ndim == 4 and hidden % array.shape[1] == 0 else None

    def factor(
        self, start: str, end: str, shape: tuple[int | str, ...], change: Callable[[Array], Array]
    ) -> float | None:
        """Returns: what `change` of one value is multiplied by to give another; None if it does not give it."""
        factor = None
        for batch, length in SIZES:
            sizes = {"batch": batch, "length": length}
            array = self._normal(*(sizes[size] if isinstance(size, str) else size for size in shape))
            expected, found = change(array), self._run(end, batch, length, {start: array})
            if found is None or found.shape != expected.shape:
                return None
            factor = factor or float((found * expected).sum() / (expected**2).sum())
            if not np.allclose(found, factor * expected, rtol=1e-5, atol=1e-6):
                return None
        return factor

    def masking(self, start: str, end: str, heads: int, bias: str | None) -> Masking | None:
        """Find out what is done to the scores before the softmax, if this bias is a part of it."""
        factor, is_masked = None, None
        for (batch, length), scores_heads in zip(
            (*SIZES, LONG), (heads, heads, 1), strict=True
        ):  # one for all is quick
            scores = self._normal(batch, scores_heads, length, length)
            added = np.zeros(1, np.float32) if bias is None else self._normal(1, scores_heads, length, length)
            keep = np.ones((batch, length), np.int64)
            mask = np.where(np.arange(length) == 0, keep, self._random.integers(0, 2, keep.shape))
            feeds = {start: scores} if bias is None else {start: scores, bias: added}
            unmasked, masked = (
                self._run(end, batch, length, {**feeds, "attention_mask": array}) for array in (keep, mask)
            )
            if unmasked is None or masked is None or unmasked.shape[2:] != (length, length):
                return None
            factor = factor or float(((unmasked - added) * scores).sum() / (scores**2).sum())
            has_effect = not np.array_equal(unmasked, masked)
            is_masked = has_effect if is_masked is None else is_masked
            kept = (mask[:, None, None, :] == 1) | (not has_effect)
            if (
                has_effect != is_masked
                or not np.allclose(unmasked, factor * scores + added, rtol=1e-5, atol=1e-5)
                or not np.array_equal(np.where(kept, masked, 0), np.where(kept, unmasked, 0))
                or not np.max(np.where(kept, -np.inf, masked)) <= MASKS_BELOW  # NaN neither
            ):
                return None
        return Masking(factor, bias, bool(is_masked)) if factor is not None else None

    def _run(self, name: str, batch: int, length: int, feeds: dict[str, Array]) -> Array | None:
        column = self._normal(batch, length, 1)
        states = {
            key: np.broadcast_to(column, (batch, length, depth))
            for key, depth in self._depths.items()
            if key != name  # what attention gives is read by a linear layer too
        }
        inputs = {
            value.name: np.ones((batch, length), helper.tensor_dtype_to_np_dtype(value.type.tensor_type.elem_type))
            for value in self._graph.model.graph.input
        }
        arrays = {key: array.astype(inputs[key].dtype) if key in inputs else array for key, array in feeds.items()}
        return evaluate(self._graph, name, {**inputs, **states, **arrays})

    def _normal(self, *shape: int) -> Array:
        return self._random.normal(size=shape).astype(np.float32)


def _is(expected: float, factor: float | None) -> bool:
    return factor is not None and math.isclose(expected, factor, rel_tol=1e-5)


def _linears_above(graph: Graph, name: str) -> Iterator[tuple[str, Linear]]:
    """Find the linear layer, and the name of its result, that is shaped and scaled into a value."""
    linear, node = match_linear(graph, name), graph.producer(name)
    if linear is not None:
        yield name, linear
    elif node is not None and node.op_type in AROUND_PRODUCTS:
        for source in node.input:
            yield from _linears_above(graph, source)


def _products_above(graph: Graph, name: str) -> Iterator[onnx.NodeProto]:
    node = graph.producer(name)
    if node is not None and node.op_type == "MatMul":
        yield node
    elif node is not None and node.op_type in BEFORE_SOFTMAX:
        for source in node.input:
            yield from _products_above(graph, source)


def _products_below(graph: Graph, name: str) -> Iterator[onnx.NodeProto]:
    for reader in graph.consumers(name):
        if reader.op_type == "MatMul" and reader.input[0] == name:
            yield reader
        elif reader.op_type in AFTER_SOFTMAX:
            yield from _products_below(graph, reader.output[0])


def _values_below(graph: Graph, name: str) -> Iterator[str]:
    for reader in graph.consumers(name):
        if reader.op_type in AROUND_PRODUCTS and reader.input[0] == name:
            yield reader.output[0]
            yield from _values_below(graph, reader.output[0])


def _biases_above(graph: Graph, name: str) -> Iterator[str]:
    """Find what is added to scores whatever the input: a bias by position."""
    node = graph.producer(name)
    if node is not None and node.op_type in BEFORE_SOFTMAX:
        for source in node.input:
            if node.op_type == "Add" and not graph.is_constant(source) and not graph.sources(source):
                yield source
            yield from _biases_above(graph, source)
