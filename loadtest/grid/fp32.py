"""Makes the fp32 graph of an int8 bundle that ships none: the same graph, its products in float again.

Each MatMulInteger, with what quantizes its input and scales its output, becomes a MatMul by the weights that the bytes
stand for. Time depends on the shapes and the operators, which are those of the fp32 graph; answers are those of int8
within its rounding of activations. Tables of embeddings stay in bytes, since a lookup costs next to nothing.
"""

import json
import shutil
from pathlib import Path

import numpy as np
import onnx
from onnx import helper, numpy_helper

from models.tasks.bundle import FP32_MODEL, MANIFEST, Bundle
from models.tasks.directory.files import BundleError
from models.tasks.directory.overrides import OVERRIDES

DERIVED = "weights of the int8 graph, in float"


def write_fp32(bundle: Bundle, directory: Path) -> str:
    """Write a bundle with an fp32 graph beside links to the other files. Returns: a note on where the graph is from.

    Raises: BundleError if there is no such graph and none can be made.
    """
    (directory / "onnx").mkdir(parents=True)
    shipped = bundle.path / FP32_MODEL
    note = "" if shipped.exists() else DERIVED
    if shipped.exists():
        for file in shipped.parent.glob(f"{shipped.name}*"):  # its weights too, where they are in files of their own
            shutil.copy(file, directory / "onnx")
    else:
        onnx.save(float_products(bundle.model_path), str(directory / FP32_MODEL))
    for entry in bundle.path.iterdir():
        if entry.name not in (MANIFEST, OVERRIDES, "onnx") and entry.suffix != ".onnx":
            (directory / entry.name).symlink_to(entry.resolve())
    overrides = bundle.path / OVERRIDES
    settings = json.loads(overrides.read_text(encoding="utf-8")) if overrides.exists() else {}
    settings.pop("file", None)
    (directory / OVERRIDES).write_text(json.dumps(settings | {"task": bundle.task}), encoding="utf-8")
    return note


def float_products(path: Path) -> onnx.ModelProto:
    """Read an int8 graph and put its products into float. Raises: BundleError where one has an unknown form."""
    model = onnx.load(path)
    graph = model.graph
    constants = {tensor.name: tensor for tensor in graph.initializer}
    producers = {name: node for node in graph.node for name in node.output}
    products = [node for node in graph.node if node.op_type == "MatMulInteger"]
    if not products:
        raise BundleError(f"{path} has no MatMulInteger to put into float")
    replacements: dict[str, onnx.NodeProto] = {}  # by the output that a product has in the end
    for number, product in enumerate(products):
        scaled = _scaled(graph, product, path)
        scales = next(name for name in scaled.input if producers[name].op_type == "Mul")
        [weight_scale] = [name for name in producers[scales].input if name in constants]
        quantizer = producers[product.input[0]]
        if quantizer.op_type != "DynamicQuantizeLinear" or product.input[1] not in constants:
            raise _unknown(path, product)
        weights = numpy_helper.to_array(constants[product.input[1]]).astype(np.float32)
        if len(product.input) > 3:
            weights = weights - numpy_helper.to_array(constants[product.input[3]]).astype(np.float32)
        weights = weights * numpy_helper.to_array(constants[weight_scale])
        name = f"float_weights_{number}"
        graph.initializer.append(numpy_helper.from_array(weights.astype(np.float32), name))
        output = scaled.output[0]
        replacements[output] = helper.make_node("MatMul", [quantizer.input[0], name], [output], f"product_{number}")
    nodes = [replacements.get(node.output[0], node) for node in graph.node]
    _replace(graph, nodes)
    return model


def _scaled(graph: onnx.GraphProto, product: onnx.NodeProto, path: Path) -> onnx.NodeProto:
    """Find the Mul that scales a product, behind its Cast. Raises: BundleError."""
    node = product
    for kind in ("Cast", "Mul"):
        readers = [reader for reader in graph.node if node.output[0] in reader.input]
        if len(readers) != 1 or readers[0].op_type != kind:
            raise _unknown(path, product)
        [node] = readers
    return node


def _unknown(path: Path, node: onnx.NodeProto) -> BundleError:
    return BundleError(f"{path}: the product {node.name} has a form that is not ours")


def _replace(graph: onnx.GraphProto, nodes: list[onnx.NodeProto]) -> None:
    """Keep the nodes and constants that an output needs; nodes are in order already."""
    needed = {value.name for value in graph.output}
    kept = []
    for node in reversed(nodes):
        if needed & set(node.output):
            kept.append(node)
            needed |= set(node.input)
    tensors = [tensor for tensor in graph.initializer if tensor.name in needed]
    del graph.node[:], graph.initializer[:]
    graph.node.extend(reversed(kept))
    graph.initializer.extend(tensors)
