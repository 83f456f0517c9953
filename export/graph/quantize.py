"""Quantizes a graph to dynamic int8: weights by channel, embeddings by row, activations in float."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper
from onnxruntime.quantization import QuantType, quantize_dynamic
from onnxruntime.quantization.quant_utils import add_pre_process_metadata

from export.checkpoint import ExportError
from export.graph.graph import Graph
from export.graph.outliers import move_outliers
from models.tasks.base import Features
from models.tasks.manifest import Quantization

HEAD_COLUMNS = 32  # a product this narrow is a task head: in float it costs no time
SHOWN_NAMES = 8
MIN_TABLE_BYTES = 1 << 14  # smaller tables (token types) would save less than the operators cost


def quantize(
    fp32: Path,
    int8: Path,
    *,
    reduce_range: bool = False,
    keep_float: Sequence[str] = (),
    windows: Sequence[Features] = (),
) -> Quantization:
    """Write the int8 graph of an fp32 graph.

    `reduce_range` keeps the weights to 7 bits: without VNNI, products of unsigned and signed bytes saturate.
    Products whose names hold a text of `keep_float` stay in float. Standard ONNX operators only.
    `windows`: real ones, by which the outliers of activations are found; without any they stay where they are.
    """
    model = onnx.load(fp32)
    give_own_weights(model)
    float_nodes = head_nodes(model.graph) + named_products(model.graph, keep_float)
    smoothed_nodes = move_outliers(model, windows, keep=float_nodes)
    # Else the quantizer asks for a pre-processing whose one part that matters here, shapes, it infers itself.
    add_pre_process_metadata(model)
    quantize_dynamic(
        model,
        int8,
        op_types_to_quantize=["MatMul"],
        per_channel=True,
        reduce_range=reduce_range,
        weight_type=QuantType.QInt8,
        nodes_to_exclude=float_nodes,
        # Products of two activations (attention) lose accuracy and gain no speed in int8.
        extra_options={"MatMulConstBOnly": True},
    )
    int8_model = onnx.load(int8)
    quantize_embeddings(int8_model)
    Graph(int8_model).finish()  # onnxruntime's quantizer sorts nodes without those that only their branches read
    onnx.save(int8_model, int8)
    return Quantization(
        method="dynamic",
        weight_type="int8",
        per_channel=True,
        embeddings="per_row",
        reduce_range=reduce_range,
        float_nodes=tuple(float_nodes),
        smoothed_nodes=tuple(smoothed_nodes),
    )


def head_nodes(graph: onnx.GraphProto) -> list[str]:
    """Find the products that are a task head: by a constant weight of few columns."""
    columns = {weight.name: weight.dims[-1] for weight in graph.initializer if len(weight.dims) == 2}
    return [
        node.name
        for node in graph.node
        if node.op_type == "MatMul" and columns.get(node.input[1], HEAD_COLUMNS) < HEAD_COLUMNS
    ]


def named_products(graph: onnx.GraphProto, parts: Sequence[str]) -> list[str]:
    """Find the MatMul nodes whose names hold any of these texts, such as `layer.0/attention/out_lin`.

    Raises: ExportError if one of the texts is in no name.
    """
    names = [node.name for node in graph.node if node.op_type == "MatMul"]
    for part in parts:
        if not any(part in name for name in names):
            shown = ", ".join(names[:SHOWN_NAMES])
            raise ExportError(f"--keep-float {part}: no product has this in its name; the first are {shown}")
    return [name for name in names if any(part in name for part in parts)]


def give_own_weights(model: onnx.ModelProto) -> None:
    """Let each product read a constant of its own, in place.

    Exporters hide weights behind an Identity or a Transpose, where the quantizer does not find them. Of weights that
    two products share, onnxruntime cannot make exact products: it replaces them for each, and fails at the second.
    """
    graph = Graph(model)
    for node in list(graph.nodes):
        if node.op_type in ("Identity", "Transpose") and graph.is_constant(node.input[0]):
            array = graph.constant(node.input[0])
            if node.op_type == "Transpose":
                array = array.transpose([entry for item in node.attribute for entry in item.ints] or None)
            graph.add_constant(node.output[0], array)
            graph.remove(node)
    used_names: set[str] = set()
    for node in graph.nodes:
        if node.op_type == "MatMul" and graph.is_constant(name := node.input[1]):
            if name in used_names:
                node.input[1] = graph.add_constant(f"{name}_of_{node.output[0]}", graph.constant(name))
            used_names.add(name)
    graph.finish()


def quantize_embeddings(model: onnx.ModelProto) -> None:
    """Turn each embedding table into int8 rows with a float32 scale each, in place.

    One scale for a whole table ruins its small rows (onnxruntime quantizes Gather so). The rows that an
    input needs are gathered first and made float after, so no run touches the whole table.
    """
    graph = model.graph
    for name in _tables(graph):
        table = next(tensor for tensor in graph.initializer if tensor.name == name)
        rows, scales = quantize_rows(numpy_helper.to_array(table))
        graph.initializer.remove(table)
        graph.initializer.append(numpy_helper.from_array(rows, f"{name}_int8"))
        graph.initializer.append(numpy_helper.from_array(scales, f"{name}_scale"))
        for position, node in reversed(list(enumerate(graph.node))):
            if node.op_type == "Gather" and node.input[0] == name:
                graph.node.remove(node)
                for new_node in reversed(_gather_rows(node)):
                    graph.node.insert(position, new_node)


def quantize_rows(table: NDArray[np.float32]) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
    """Quantize each row to symmetric int8; one of zeros stays zero. Shapes: (rows, width) to the same and (rows, 1)."""
    scales = np.abs(table).max(axis=1, keepdims=True) / np.float32(127)
    rows = np.rint(table / np.where(scales > 0, scales, np.float32(1)))
    return rows.astype(np.int8), scales.astype(np.float32)


def _tables(graph: onnx.GraphProto) -> list[str]:
    """Find two-dimensional float tables of which every reader looks up rows."""
    tables = []
    for tensor in graph.initializer:
        readers = [node for node in graph.node if tensor.name in node.input]
        is_large = len(tensor.dims) == 2 and 4 * tensor.dims[0] * tensor.dims[1] >= MIN_TABLE_BYTES
        if tensor.data_type == onnx.TensorProto.FLOAT and is_large and readers and all(map(_looks_up_rows, readers)):
            tables.append(tensor.name)
    return tables


def _looks_up_rows(node: onnx.NodeProto) -> bool:
    return node.op_type == "Gather" and all(
        attribute.i == 0 for attribute in node.attribute if attribute.name == "axis"
    )


def _gather_rows(node: onnx.NodeProto) -> list[onnx.NodeProto]:
    table, indices = node.input
    (output,) = node.output
    rows = f"{output}_rows"  # onnxruntime's quantizer names the scale of a value `output`_scale
    return [
        helper.make_node("Gather", [f"{table}_int8", indices], [f"{rows}_int8"], f"{node.name}_int8", axis=0),
        helper.make_node("Cast", [f"{rows}_int8"], [f"{rows}_cast"], f"{node.name}_cast", to=onnx.TensorProto.FLOAT),
        helper.make_node("Gather", [f"{table}_scale", indices], [f"{rows}_scale"], f"{node.name}_scale", axis=0),
        helper.make_node("Mul", [f"{rows}_cast", f"{rows}_scale"], [output], f"{node.name}_mul"),
    ]
