"""Reads the outputs of an ONNX file without opening it: protobuf's wire format, as far as needed."""

import mmap
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from models.tasks.directory.files import BundleError

Shape = tuple[int | None, ...]
"""Of an output; None is an axis that varies."""

VARINT, FIXED_64, BYTES, FIXED_32 = 0, 1, 2, 5  # wire types
# Numbers of fields (onnx.proto): each leads from a message to a part of it.
GRAPH, OUTPUT, NAME, TYPE, TENSOR, SHAPE, AXIS, SIZE = 7, 12, 1, 2, 1, 2, 1, 1

NODE, INITIALIZER, DIMENSION, DATA_TYPE, EXTERNAL = 1, 5, 1, 2, 13
OPERATOR_KEY = 4 << 3 | BYTES

Precision = Literal["int8", "fp32", "fp16", "bf16", "q4", "q4f16", "bnb4"]
FLOATS: dict[object, Precision] = {1: "fp32", 10: "fp16", 16: "bf16"}  # by TensorProto.DataType
FOUR_BITS = ("MatMulNBits", "GatherBlockQuantized")
EIGHT_BITS = (
    "MatMulInteger",
    "DynamicQuantizeMatMul",
    "MatMulIntegerToFloat",
    "DequantizeLinear",
    "QLinearMatMul",
    "QGemm",
    "QAttention",
)


def output_shapes(path: Path) -> dict[str, Shape | None]:
    """Read the names of a graph's outputs, and their shapes, None for one that the file leaves out.

    The weights are passed over, so that it takes a millisecond. Returns: nothing of a file that is not ONNX, which
    onnxruntime refuses when it opens it. Raises: BundleError.
    """
    try:
        with path.open("rb") as file:
            content = memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
        outputs = [output for graph in _parts(content, GRAPH) for output in _parts(graph, OUTPUT)]
        return {_name(output): _shape(output) for output in outputs}
    except OSError as error:
        raise BundleError(f"{path} cannot be read ({error.strerror}); correct its permissions") from error
    except (ValueError, IndexError):  # the file is empty, or its bytes are no protobuf
        return {}


@dataclass(frozen=True, slots=True)
class Weights:
    """What a graph computes with, and the files beside it that hold its weights (relative, with forward slashes)."""

    precision: Precision
    files: tuple[str, ...]


def read_weights(path: Path) -> Weights | None:
    """Read the precision of a graph from its operators and weights. Returns: None of a file that is not ONNX.

    Products of 8-bit integers make it int8, and those of 4-bit weights q4 or bnb4; else what most weights are stored
    as. Raises: BundleError.
    """
    try:
        with path.open("rb") as file:
            content = memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
        nodes = b"".join(node for graph in _parts(content, GRAPH) for node in _parts(graph, NODE))
        tensors = [dict(_tensor(tensor)) for graph in _parts(content, GRAPH) for tensor in _parts(graph, INITIALIZER)]
    except OSError as error:
        raise BundleError(f"{path} cannot be read ({error.strerror}); correct its permissions") from error
    except (ValueError, IndexError):
        return None
    if not nodes:
        return None
    elements: Counter[str] = Counter()
    for tensor in tensors:
        elements[FLOATS.get(tensor.get("type"), "")] += tensor["elements"]
    floats: Precision = max(FLOATS.values(), key=lambda name: elements[name])
    files = tuple(sorted({tensor["file"] for tensor in tensors if "file" in tensor}))
    if _has_any(nodes, FOUR_BITS):
        return Weights("q4f16" if floats == "fp16" else "q4", files)
    if _has_any(nodes, ("MatMulBnb4",)):
        return Weights("bnb4", files)
    return Weights("int8" if _has_any(nodes, EIGHT_BITS) else floats, files)


def _has_any(nodes: bytes, operators: Sequence[str]) -> bool:
    """Look for operators by the bytes of their field in a node: its key, the length of the name, the name."""
    return any(bytes([OPERATOR_KEY, len(name)]) + name.encode() in nodes for name in operators)


def _tensor(tensor: memoryview) -> Iterator[tuple[str, Any]]:  # of each key its own type
    """List what the head of a tensor says; its data comes last and is passed over."""
    elements = 1
    for number, value in _fields(tensor):
        if number == DIMENSION and isinstance(value, int):
            elements *= value
        elif number == DIMENSION and isinstance(value, memoryview):  # several, packed
            position = 0
            while position < len(value):
                size, position = _varint(value, position)
                elements *= size
        elif number == DATA_TYPE:
            yield "type", value
        elif number == EXTERNAL and isinstance(value, memoryview):
            entry = {key: bytes(text).decode() for key, text in _fields(value) if isinstance(text, memoryview)}
            if entry.get(1) == "location":
                yield "file", entry[2]
    yield "elements", elements


def _name(output: memoryview) -> str:
    return next((bytes(name).decode() for name in _parts(output, NAME)), "")


def _shape(output: memoryview) -> Shape | None:
    tensors = [tensor for kind in _parts(output, TYPE) for tensor in _parts(kind, TENSOR)]
    shape = next((shape for tensor in tensors for shape in _parts(tensor, SHAPE)), None)
    return None if shape is None else tuple(_size(axis) for axis in _parts(shape, AXIS))


def _size(axis: memoryview) -> int | None:
    return next((value for number, value in _fields(axis) if number == SIZE and isinstance(value, int)), None)


def _parts(message: memoryview, number: int) -> Iterator[memoryview]:
    """Find the messages and texts under this number."""
    return (value for found, value in _fields(message) if found == number and isinstance(value, memoryview))


def _fields(message: memoryview) -> Iterator[tuple[int, memoryview | int]]:
    """Split a message into its fields: the number of each, and its bytes or its integer.

    Raises: ValueError, IndexError if it is none.
    """
    position = 0
    while position < len(message):
        key, position = _varint(message, position)
        number, wire_type = key >> 3, key & 7
        size = {FIXED_64: 8, FIXED_32: 4}.get(wire_type, 0)
        if wire_type == VARINT:
            integer, position = _varint(message, position)
            yield number, integer
            continue
        if wire_type == BYTES:
            size, position = _varint(message, position)
        elif not size:
            raise ValueError(f"wire type {wire_type}")
        if position + size > len(message):
            raise ValueError("cut short")
        yield number, message[position : position + size]
        position += size


def _varint(message: memoryview, position: int) -> tuple[int, int]:
    """Returns: an integer of seven bits a byte, the least first, and the position behind it."""
    value = shift = 0
    while True:
        byte = message[position]
        value |= (byte & 0x7F) << shift
        position, shift = position + 1, shift + 7
        if byte < 0x80:
            return value, position
