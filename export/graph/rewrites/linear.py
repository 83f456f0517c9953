"""Changes a product by constant weights plus a bias, in float or in dynamic int8."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import onnx

from export.graph.graph import Array, Graph, replace_input


@dataclass(frozen=True, slots=True)
class Linear:
    """`y = x · weight + bias`. In int8, `scales` is the node that multiplies the scale of x with those of the columns.

    Shapes: weight (in, out), bias (out,), scales of the columns (out,) or one for all.
    """

    product: onnx.NodeProto
    bias: onnx.NodeProto
    scales: onnx.NodeProto | None

    def scale(self, graph: Graph, factor: float) -> None:
        """Make it `factor · (x · weight + bias)`."""
        times = np.float32(factor)
        if self.scales is None:
            self._replace(graph, self.product, self.product.input[1], "scaled", lambda weight: weight * times)
        else:
            self._replace(graph, self.scales, self._column_scales(graph), "scaled", lambda scales: scales * times)
        self._replace(graph, self.bias, self._bias_name(graph), "scaled", lambda bias: bias * times)

    def widen(self, graph: Graph, heads: int, value: float) -> None:
        """Give every head one more column at its end, which is `value` whatever x is."""
        label = f"and_{value:g}"

        def columns(fill: float) -> Callable[[Array], Array]:
            def widened(array: Array) -> Array:
                parts = array.reshape(*array.shape[:-1], heads, -1)
                widths = [(0, 0)] * (parts.ndim - 1) + [(0, 1)]
                return np.pad(parts, widths, constant_values=fill).reshape(*array.shape[:-1], -1)

            return widened

        self._replace(graph, self.product, self.product.input[1], label, columns(0))
        self._replace(graph, self.bias, self._bias_name(graph), label, columns(value))
        if self.scales is not None:
            by_column = [(self.scales, self._column_scales(graph), 1.0)]
            by_column += [(self.product, name, 0.0) for name in self.product.input[3:]]
            for node, name, fill in by_column:
                if graph.dimensions(name) not in ((), (1,)):
                    self._replace(graph, node, name, label, columns(fill))

    def read(self, graph: Graph, name: str) -> None:
        """Multiply another value than before; in int8 it gets a scale of its own."""
        if self.scales is None:
            self.product.input[0] = name
            return
        quantized = [f"{name}_{part}" for part in ("quantized", "scale", "zero_point")]
        if graph.producer(quantized[0]) is None:
            graph.nodes.append(
                onnx.helper.make_node("DynamicQuantizeLinear", [name], quantized, f"{name}_QuantizeLinear")
            )
        before = next(factor for factor in self.scales.input if not graph.is_constant(factor))
        self.product.input[0], self.product.input[2] = quantized[0], quantized[2]
        replace_input(self.scales, before, quantized[1])

    def source(self, graph: Graph) -> str:
        """Returns: the name of x."""
        if self.scales is None:
            name: str = self.product.input[0]
            return name
        quantize = graph.producer(self.product.input[0])
        assert quantize is not None
        read: str = quantize.input[0]
        return read

    def width(self, graph: Graph) -> int:
        return graph.dimensions(self.product.input[1])[1]

    def _bias_name(self, graph: Graph) -> str:
        return _constant_input(graph, self.bias)

    def _column_scales(self, graph: Graph) -> str:
        assert self.scales is not None
        return _constant_input(graph, self.scales)

    @staticmethod
    def _replace(graph: Graph, node: onnx.NodeProto, name: str, label: str, change: Callable[[Array], Array]) -> None:
        array = graph.constant(name)
        replace_input(node, name, graph.add_constant(f"{name}_{label}", change(array).astype(array.dtype)))


def match_linear(graph: Graph, name: str) -> Linear | None:
    """Find the linear layer whose result this value is."""
    bias = graph.producer(name)
    if bias is None or bias.op_type != "Add":
        return None
    constant = [term for term in bias.input if graph.is_constant(term) and len(graph.dimensions(term)) == 1]
    computed = [graph.producer(term) for term in bias.input if not graph.is_constant(term)]
    if len(constant) != 1 or len(computed) != 1 or computed[0] is None:
        return None
    product = computed[0]
    if product.op_type == "MatMul":
        return Linear(product, bias, None) if _has_weights(graph, product) else None
    if product.op_type != "Mul":
        return None
    factors = [node for factor in product.input if (node := graph.producer(factor)) is not None]
    cast = next((node for node in factors if node.op_type == "Cast"), None)
    scales = next((node for node in factors if node.op_type == "Mul" and any(map(graph.is_constant, node.input))), None)
    integer = graph.producer(cast.input[0]) if cast is not None else None
    if scales is None or integer is None or integer.op_type != "MatMulInteger" or not _has_weights(graph, integer):
        return None
    return Linear(integer, bias, scales)


def _constant_input(graph: Graph, node: onnx.NodeProto) -> str:
    name: str = next(value for value in node.input if graph.is_constant(value))
    return name


def _has_weights(graph: Graph, product: onnx.NodeProto) -> bool:
    return graph.is_constant(product.input[1]) and len(graph.dimensions(product.input[1])) == 2
