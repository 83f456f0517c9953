"""Writes ONNX as bytes, without the package onnx: protobuf's wire format, as far as a graph needs."""

import struct
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

VARINT, BYTES, FIXED_32 = 0, 2, 5  # wire types
FLOAT, INT8, INT64 = 1, 3, 7  # TensorProto.DataType
DTYPES = {np.dtype(np.float32): FLOAT, np.dtype(np.int8): INT8, np.dtype(np.int64): INT64}
FLOAT_ATTRIBUTE, INT_ATTRIBUTE, INTS_ATTRIBUTE = 1, 2, 7  # AttributeProto.AttributeType
IR_VERSION, OPSET = 9, 17

Attribute = int | float | Sequence[int]


def varint(value: int) -> bytes:
    """Write an integer, seven bits a byte, the least first; a negative one as 64 bits."""
    value &= (1 << 64) - 1
    written = bytearray()
    while value > 0x7F:
        written.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*written, value])


def integer(number: int, value: int) -> bytes:
    """Write a field that is an integer."""
    return varint(number << 3 | VARINT) + varint(value)


def part(number: int, *content: bytes | str) -> bytes:
    """Write a field that is a text, or a message of these fields."""
    joined = b"".join(field.encode() if isinstance(field, str) else field for field in content)
    return varint(number << 3 | BYTES) + varint(len(joined)) + joined


@dataclass(slots=True)
class Graph:
    """Collects the nodes and weights of a graph, whose results are called n1, n2 and so on."""

    nodes: list[bytes] = field(default_factory=list)
    weights: list[bytes] = field(default_factory=list)

    def add(self, operator: str, inputs: Sequence[str], results: int = 1, **attributes: Attribute) -> list[str]:
        """Add a node. Returns: the names of its results. Numbers of the fields: NodeProto in onnx.proto."""
        names = [f"n{len(self.nodes)}_{index}" for index in range(results)]
        parts = [part(1, name) for name in inputs] + [part(2, name) for name in names] + [part(4, operator)]
        parts += [part(5, _attribute(name, value)) for name, value in attributes.items()]
        self.nodes.append(part(1, *parts))
        return names

    def weight(self, values: NDArray[Any]) -> str:  # of one of DTYPES
        """Add a constant. Returns: its name. Numbers of the fields: TensorProto."""
        name = f"w{len(self.weights)}"
        sizes = [integer(1, size) for size in values.shape]
        parts = [*sizes, integer(2, DTYPES[values.dtype]), part(8, name), part(9, values.tobytes())]
        self.weights.append(part(5, *parts))
        return name

    def model(self, input_names: Sequence[str], output: str) -> bytes:
        """Write the file. Inputs are int64 of shape (batch, sequence), the output is float of (batch, sequence, any).

        Numbers of the fields: GraphProto and ModelProto.
        """
        inputs = [part(11, _value(name, INT64, ["batch", "sequence"])) for name in input_names]
        outputs = [part(12, _value(output, FLOAT, ["batch", "sequence", "hidden"]))]
        graph = part(7, *self.nodes, part(2, "encoder"), *self.weights, *inputs, *outputs)
        return integer(1, IR_VERSION) + graph + part(8, part(1, ""), integer(2, OPSET))


def _attribute(name: str, value: Attribute) -> bytes:
    if isinstance(value, float):
        fixed = varint(2 << 3 | FIXED_32) + struct.pack("<f", value)
        return part(1, name) + fixed + integer(20, FLOAT_ATTRIBUTE)
    if isinstance(value, int):
        return part(1, name) + integer(3, value) + integer(20, INT_ATTRIBUTE)
    return part(1, name) + b"".join(integer(8, number) for number in value) + integer(20, INTS_ATTRIBUTE)


def _value(name: str, kind: int, axes: Sequence[str]) -> bytes:
    """Describe an input or an output: ValueInfoProto, with its TypeProto and TensorShapeProto."""
    shape = part(2, *(part(1, part(2, axis)) for axis in axes))
    return part(1, name) + part(2, part(1, integer(1, kind), shape))
