"""Pools states inside the graph, so that every client of a bundle gets the same vector."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from models.tasks.directory.sentences import Dense, Head, Mode
from models.tasks.similarity import POOLED, STATES

SMALLEST_NORM = 1e-12  # as torch.nn.functional.normalize
SMALLEST_STATE = -1e9  # of padding, where the largest is taken; as sentence-transformers


def add_pooling(path: Path, head: Head, weights: Callable[[Path], Mapping[str, NDArray[np.floating]]]) -> None:
    """Add the output `sentence_embedding`: the states where the attention mask is 1, pooled and through the layers.

    Padding stands behind the text. `weights` reads those of a layer's folder. Raises: BundleError.

    Shapes: last_hidden_state (batch, seq_len, hidden_size) to (batch, embedding_size).
    Source: Reimers and Gurevych 2019, arXiv:1908.10084, section 3, and the modules of sentence-transformers.
    """
    model = onnx.load(path)
    states = next(output for output in model.graph.output if output.name == STATES).type.tensor_type.shape.dim
    size = states[2].dim_value * len(head.modes)
    pool = Pool(model.graph)
    vectors = [pool.of(mode) for mode in head.modes]
    vector = vectors[0] if len(vectors) == 1 else pool.add("Concat", vectors, "concat", axis=1)
    for number, layer in enumerate(head.layers):
        if isinstance(layer, Dense):
            tensors = weights(layer.folder)
            vector, size = pool.dense(vector, layer, tensors, f"dense_{number}"), len(tensors["linear.weight"])
        else:
            vector = pool.normalized(vector, f"unit_{number}")
    model.graph.node[-1].output[0] = POOLED
    model.graph.output.append(helper.make_tensor_value_info(POOLED, TensorProto.FLOAT, [states[0].dim_param, size]))
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, path)


class Pool:
    """Adds nodes that pool to a graph; the last one makes the embedding."""

    def __init__(self, graph: onnx.GraphProto) -> None:
        self.graph = graph

    def add(self, kind: str, inputs: list[str], name: str, **attributes: Any) -> str:  # attributes: as make_node
        """Returns: the name of the value that the node makes."""
        output = f"pool_{name}"
        if all(output not in node.output for node in self.graph.node):
            self.graph.node.append(helper.make_node(kind, inputs, [output], output, **attributes))
        return output

    def constant(self, value: NDArray[np.generic] | np.float32, name: str) -> str:
        """Returns: its name."""
        output = f"pool_{name}"
        if all(tensor.name != output for tensor in self.graph.initializer):
            self.graph.initializer.append(numpy_helper.from_array(np.asarray(value), output))
        return output

    def of(self, mode: Mode) -> str:
        """Pool the states. Shape: (batch, hidden_size)."""
        match mode:
            case "cls":
                return self.add("Gather", [STATES, self.constant(np.array(0), "zero")], "first", axis=1)
            case "lasttoken":
                length = self.add("ReduceSum", ["attention_mask", self._axis(1)], "length", keepdims=1)
                last = self.add("Sub", [length, self.constant(np.array([1]), "one")], "last")
                return self.add("GatherND", [STATES, last], "last_state", batch_dims=1)
            case "max":
                is_text = self.add("Cast", [self._mask()], "is_text", to=TensorProto.BOOL)
                least = self.constant(np.float32(SMALLEST_STATE), "least")
                masked = self.add("Where", [is_text, STATES, least], "without_padding")
                return self.add("ReduceMax", [masked, self._axis(1)], "max", keepdims=0)
            case "weightedmean":
                positions = self.add("CumSum", [self._mask(), self.constant(np.array(1), "position_axis")], "positions")
                weights = self.add("Mul", [positions, self._mask()], "weights")
                return self.add("Div", [*self._sums(weights, "weighted_")], "weighted_mean")
            case "mean":
                return self.add("Div", [*self._sums(self._mask(), "")], "mean")
            case "mean_sqrt_len_tokens":
                total, count = self._sums(self._mask(), "")
                return self.add("Div", [total, self.add("Sqrt", [count], "root")], "mean_sqrt")

    def dense(self, vector: str, layer: Dense, tensors: Mapping[str, NDArray[np.floating]], name: str) -> str:
        matrix = self.constant(np.ascontiguousarray(tensors["linear.weight"].T), f"{name}_weight")
        product = self.add("MatMul", [vector, matrix], f"{name}_product")
        if (bias := tensors.get("linear.bias")) is not None:
            product = self.add("Add", [product, self.constant(bias, f"{name}_bias")], f"{name}_sum")
        return self._activation(product, layer, name)

    def normalized(self, vector: str, name: str) -> str:
        norm = self.add("ReduceL2", [vector, self._axis(1)], f"{name}_norm", keepdims=1)
        least = self.constant(np.float32(SMALLEST_NORM), "smallest_norm")
        return self.add("Div", [vector, self.add("Max", [norm, least], f"{name}_length")], name)

    def _activation(self, value: str, layer: Dense, name: str) -> str:
        match layer.activation:
            case "Identity":
                return value
            case "Tanh" | "Sigmoid":
                return self.add(layer.activation, [value], name)
            case "ReLU":
                return self.add("Relu", [value], name)
            case "GELU":
                root = self.constant(np.float32(np.sqrt(2)), "root_of_two")
                error = self.add("Erf", [self.add("Div", [value, root], f"{name}_scaled")], f"{name}_erf")
                share = self.add("Add", [error, self.constant(np.float32(1), "unit")], f"{name}_share")
                half = self.add("Mul", [value, self.constant(np.float32(0.5), "half")], f"{name}_half")
                return self.add("Mul", [half, share], name)

    def _mask(self) -> str:
        """Shape: (batch, seq_len, 1)."""
        mask = self.add("Cast", ["attention_mask"], "cast", to=TensorProto.FLOAT)
        return self.add("Unsqueeze", [mask, self._axis(2)], "mask")

    def _sums(self, weights: str, name: str) -> tuple[str, str]:
        """Sum the states by their weights, and the weights themselves."""
        weighted = self.add("Mul", [STATES, weights], f"{name}states")
        total = self.add("ReduceSum", [weighted, self._axis(1)], f"{name}sum", keepdims=0)
        return total, self.add("ReduceSum", [weights, self._axis(1)], f"{name}count", keepdims=0)

    def _axis(self, number: int) -> str:
        return self.constant(np.array([number]), f"axis_{number}")
