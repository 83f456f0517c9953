"""Makes a small random encoder, in fp32 and in int8.

It lets a machine be measured without a bundle, and has the shape of the smaller default models: 3 layers of 384, with
12 heads and feed-forward layers of 1536.
"""

from collections.abc import Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from service.checkup.onnx_file import FLOAT, Graph

LAYERS, HIDDEN, HEADS, INNER = 3, 384, 12, 1536
VOCABULARY = 64  # ids; looking one up costs the same in any table
SCALE = 0.05  # of the weights: outputs neither vanish nor grow
SEED = 0

Weights = NDArray[np.float32]
Precision = Literal["fp32", "int8"]


class Encoder:
    """Builds the graph of one precision; both have the same weights, but for the rounding of int8."""

    def __init__(self, precision: Precision) -> None:
        self._graph, self._precision = Graph(), precision
        self._random = np.random.default_rng(SEED)

    def model(self) -> tuple[bytes, str]:
        """Returns: the ONNX file, and the name of its output, of shape (batch, sequence, HIDDEN)."""
        graph = self._graph
        [hidden] = graph.add("Gather", [graph.weight(self._weights(VOCABULARY, HIDDEN) / SCALE), "input_ids"])
        hidden = self._normalized(hidden)
        for _ in range(LAYERS):
            query, keys, values = self._linear(hidden, (HIDDEN, HIDDEN, HIDDEN))
            [attended] = self._linear(self._attention(query, keys, values), (HIDDEN,))
            hidden = self._normalized(*graph.add("Add", [attended, hidden]))
            [inner] = self._linear(hidden, (INNER,))
            [outer] = self._linear(self._gelu(inner), (HIDDEN,), inputs=INNER)
            hidden = self._normalized(*graph.add("Add", [outer, hidden]))
        return graph.model(["input_ids"], hidden), hidden

    def _weights(self, *shape: int) -> Weights:
        return (SCALE * self._random.standard_normal(shape)).astype(np.float32)

    def _linear(self, hidden: str, sizes: Sequence[int], *, inputs: int = HIDDEN) -> list[str]:
        """Add layers that read the same: int8 quantizes it once for all of them."""
        graph, is_int8 = self._graph, self._precision == "int8"
        quantized = graph.add("DynamicQuantizeLinear", [hidden], 3) if is_int8 else []
        outputs = []
        for size in sizes:
            weights = self._weights(inputs, size)
            if is_int8:
                product = self._product_of_bytes(quantized, weights)
            else:
                [product] = graph.add("MatMul", [hidden, graph.weight(weights)])
            outputs += graph.add("Add", [product, graph.weight(self._weights(size))])
        return outputs

    def _product_of_bytes(self, quantized: Sequence[str], weights: Weights) -> str:
        """Multiply as exporters write it: onnxruntime makes one operator of these. `quantized`: values, scale, zero."""
        graph, (values, scale, zero) = self._graph, quantized
        step = np.float32(np.abs(weights).max() / 127)
        rounded = np.round(weights / step).astype(np.int8)
        [sums] = graph.add("MatMulInteger", [values, graph.weight(rounded), zero, graph.weight(np.zeros((), np.int8))])
        [floats] = graph.add("Cast", [sums], to=FLOAT)
        [scales] = graph.add("Mul", [scale, graph.weight(np.array(step))])
        [product] = graph.add("Mul", [floats, scales])
        return product

    def _attention(self, query: str, keys: str, values: str) -> str:
        graph, size = self._graph, HIDDEN // HEADS
        split = graph.weight(np.array([0, 0, HEADS, size], np.int64))
        heads = [graph.add("Reshape", [projection, split])[0] for projection in (query, keys, values)]
        orders = ((0, 2, 1, 3), (0, 2, 3, 1), (0, 2, 1, 3))
        query, keys, values = (
            graph.add("Transpose", [head], perm=order)[0] for head, order in zip(heads, orders, strict=True)
        )
        [logits] = graph.add("MatMul", [query, keys])
        [scaled] = graph.add("Mul", [logits, graph.weight(np.array(size**-0.5, np.float32))])
        [weights] = graph.add("Softmax", [scaled], axis=-1)
        [attended] = graph.add("MatMul", [weights, values])
        [tokens_first] = graph.add("Transpose", [attended], perm=(0, 2, 1, 3))
        [joined] = graph.add("Reshape", [tokens_first, graph.weight(np.array([0, 0, HIDDEN], np.int64))])
        return joined

    def _gelu(self, inner: str) -> str:
        """Add x / 2 · (1 + erf(x / √2)), as exporters write it."""
        graph = self._graph
        root, one, half = (graph.weight(np.array(value, np.float32)) for value in (2**0.5, 1.0, 0.5))
        [divided] = graph.add("Div", [inner, root])
        [error] = graph.add("Erf", [divided])
        [above] = graph.add("Add", [error, one])
        [product] = graph.add("Mul", [inner, above])
        [halved] = graph.add("Mul", [product, half])
        return halved

    def _normalized(self, hidden: str) -> str:
        gain, bias = np.ones(HIDDEN, np.float32), np.zeros(HIDDEN, np.float32)
        inputs = [hidden, self._graph.weight(gain), self._graph.weight(bias)]
        [normalized] = self._graph.add("LayerNormalization", inputs, axis=-1, epsilon=1e-12)
        return normalized
