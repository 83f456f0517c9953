"""Changes a product by constant weights plus a bias, in float or in dynamic int8."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import onnx

from export.graph.graph import Array, Graph, replace_input
from export.graph.outliers import RECIPROCALS


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
        multiplier = np.float32(factor)
        if self.scales is None:
            self._replace(graph, self.product, self.product.input[1], "scaled", lambda weight: weight * multiplier)
        else:
            self._replace(graph, self.scales, self._column_scales(graph), "scaled", lambda scales: scales * multiplier)
        self._replace(graph, self.bias, self._bias_name(graph), "scaled", lambda bias: bias * multiplier)

    def widen(self, graph: Graph, heads: int, value: float) -> None:
        """Give every head one more column at its end, which is `value` whatever x is."""
        label = f"and_{value:g}"

        def columns(fill: float) -> Callable[[Array], Array]:
            def widen_array(array: Array) -> Array:
                parts = array.reshape(*array.shape[:-1], heads, -1)
                widths = [(0, 0)] * (parts.ndim - 1) + [(0, 1)]
                return np.pad(parts, widths, constant_values=fill).reshape(*array.shape[:-1], -1)

            return widen_array

        self._replace(graph, self.product, self.product.input[1], label, columns(0))
        self._replace(graph, self.bias, self._bias_name(graph), label, columns(value))
        if self.scales is not None:
            column_constants = [(self.scales, self._column_scales(graph), 1.0)]
            column_constants += [(self.product, name, 0.0) for name in self.product.input[3:]]
            for node, name, fill in column_constants:
                if graph.dimensions(name) not in ((), (1,)):
                    self._replace(graph, node, name, label, columns(fill))

    def read(self, graph: Graph, name: str) -> None:
        """Multiply another value than before; in int8 it gets a scale of its own."""
        if self.scales is None:
            self.product.input[0] = name
            return
        outputs = [f"{name}_{part}" for part in ("quantized", "scale", "zero_point")]
        if graph.producer(outputs[0]) is None:
            graph.nodes.append(
                onnx.helper.make_node("DynamicQuantizeLinear", [name], outputs, f"{name}_QuantizeLinear")
            )
        old_scale = next(factor for factor in self.scales.input if not graph.is_constant(factor))
        self.product.input[0], self.product.input[2] = outputs[0], outputs[2]
        replace_input(self.scales, old_scale, outputs[1])

    def source(self, graph: Graph) -> str:
        """Returns: the name of x."""
        if self.scales is None:
            name: str = self.product.input[0]
            return name
        quantize = graph.producer(self.product.input[0])
        assert quantize is not None
        name = quantize.input[0]
        return name

    def width(self, graph: Graph) -> int:
        return graph.dimensions(self.product.input[1])[1]

    def depth(self, graph: Graph) -> int:
        """Returns: the width of x."""
        return graph.dimensions(self.product.input[1])[0]

    def _bias_name(self, graph: Graph) -> str:
        return _constant_input(graph, self.bias)

    def _column_scales(self, graph: Graph) -> str:
        assert self.scales is not None
        return _constant_input(graph, self.scales)

    @staticmethod
    def _replace(graph: Graph, node: onnx.NodeProto, name: str, label: str, change: Callable[[Array], Array]) -> None:
        array = graph.constant(name)
        replace_input(node, name, graph.add_constant(f"{name}_{label}", change(array).astype(array.dtype)))


def before_division(graph: Graph, name: str) -> tuple[str, str | None]:
    """Returns: the value whose outliers were divided to give this one, and the constant; else itself, and None."""
    node = graph.producer(name)
    if node is None or node.op_type != "Mul" or not node.input[1].endswith(RECIPROCALS):
        return name, None
    return node.input[0], node.input[1]


def match_linear(graph: Graph, name: str) -> Linear | None:
    """Find the linear layer whose result this value is."""
    bias = graph.producer(name)
    if bias is None or bias.op_type != "Add":
        return None
    constants = [term for term in bias.input if graph.is_constant(term) and len(graph.dimensions(term)) == 1]
    products = [graph.producer(term) for term in bias.input if not graph.is_constant(term)]
    if len(constants) != 1 or len(products) != 1 or products[0] is None:
        return None
    product = products[0]
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
