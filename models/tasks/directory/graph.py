"""Reads the outputs of an ONNX file without opening it: protobuf's wire format, as far as needed."""

import mmap
from collections.abc import Iterator
from pathlib import Path

from models.tasks.directory.files import BundleError

Shape = tuple[int | None, ...]
"""Of an output; None is an axis that varies."""

VARINT, FIXED_64, BYTES, FIXED_32 = 0, 1, 2, 5  # wire types
# Numbers of fields (onnx.proto): each leads from a message to a part of it.
GRAPH, OUTPUT, NAME, TYPE, TENSOR, SHAPE, AXIS, SIZE = 7, 12, 1, 2, 1, 2, 1, 1


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
