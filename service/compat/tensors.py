"""Turns tensors into the bodies of requests, and answers into tensors (Open Inference Protocol v2).

A route's fields that hold texts are its input tensors, all other fields are parameters, and what it answers with are
its output tensors. So no task is described here: the schemas of the route are read.
"""

import math
import struct
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from pydantic import TypeAdapter
from pydantic_core import from_json, to_json

from service.compat.inference import Datatype, InferRequest, InputTensor, TensorMetadata
from service.engine.errors import InvalidField, InvalidRequestError
from service.schemas import NOT_BLANK

TEXT: Datatype = "BYTES"
NUMBER: Datatype = "FP64"
BINARY_OUTPUT = "binary_data_output"  # of a request, for all of its outputs
BINARY_DATA = "binary_data"  # of an output
BINARY_SIZE = "binary_data_size"  # of an input
CONTENT_TYPE = "content_type"  # of an input, by MLServer's client
LENGTH = struct.Struct("<I")  # before each element of BYTES in binary form


@dataclass(frozen=True, slots=True)
class Signature:
    """The tensors of a route, by their names. `flat`: inputs that hold a text or several, where one axis will do."""

    inputs: Mapping[str, TensorMetadata]
    outputs: Mapping[str, TensorMetadata]
    flat: Collection[str]


@cache
def signature(body: Any, response: Any) -> Signature:  # annotations that pydantic reads
    """Read the tensors of a route from its schemas: the first form of its body says what is needed.

    Kept, as the schemas take half of the time in which an app is built, and are always the same.
    """
    inputs: dict[str, TensorMetadata] = {}
    flat = set()
    for position, form in enumerate(_forms(TypeAdapter(body).json_schema())):
        for name, schema in form["properties"].items():
            axes = _text_axes(schema)
            if axes and name not in inputs:
                optional = position > 0 or name not in form.get("required", ())
                inputs[name] = TensorMetadata(name=name, datatype=TEXT, shape=[-1] * max(axes), optional=optional)
                flat |= {name} if len(axes) > 1 else set()
    outputs = {}
    first = next(_forms(TypeAdapter(response).json_schema(mode="serialization")))
    for name, schema in first["properties"].items():
        axes_of_numbers = _number_axes(schema)
        datatype: Datatype = TEXT if axes_of_numbers is None else NUMBER
        outputs[name] = TensorMetadata(name=name, datatype=datatype, shape=[-1] * (1 + (axes_of_numbers or 0)))
    return Signature(inputs, outputs, flat)


def _forms(document: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """List the kinds of objects that a JSON schema allows."""

    def within(schema: dict[str, Any]) -> Iterator[dict[str, Any]]:
        if "$ref" in schema:
            schema = document["$defs"][schema["$ref"].rpartition("/")[2]]
        for member in schema.get("anyOf", ()):
            yield from within(member)
        if "properties" in schema:
            yield schema

    return within(document)


def _text_axes(schema: dict[str, Any]) -> set[int]:
    """Returns: 1 for a field that may be a text, with the axis of the batch, and 2 for one that may be several."""
    if schema.get("pattern") == NOT_BLANK:
        return {1}
    items = {axes + 1 for axes in _text_axes(schema["items"])} if "items" in schema else set()
    return items.union(*map(_text_axes, schema.get("anyOf", ())))


def _number_axes(schema: dict[str, Any]) -> int | None:
    """Returns: how many axes a field of numbers has; None for everything else."""
    if schema.get("type") == "array":
        axes = _number_axes(schema["items"])
        return None if axes is None else axes + 1
    return 0 if schema.get("type") == "number" else None


def bodies(request: InferRequest, binary: bytes, tensors: Signature) -> list[dict[str, Any]]:
    """Make the bodies of the batch, as the task's own route takes them. `binary`: what stands behind the JSON.

    Raises: InvalidRequestError.
    """
    shared: dict[str, Any] = {name: value for name, value in request.parameters.items() if name != BINARY_OUTPUT}
    if "model" in shared:
        raise refused("parameters.model", "is not needed: the path names the model")
    columns: dict[str, list[Any]] = {}
    for index, tensor in enumerate(request.inputs):
        place = f"inputs[{index}]"
        if tensor.name not in tensors.inputs:
            raise refused(f"{place}.name", f"is none of the model's inputs; they are {', '.join(tensors.inputs)}")
        if tensor.name in columns or tensor.name in shared:
            raise refused(f"{place}.name", "is given twice")
        if tensor.datatype != TEXT:
            raise refused(f"{place}.datatype", "must be BYTES: the model reads texts")
        _check_parameters(tensor, place)
        size = tensor.parameters.get(BINARY_SIZE)
        if size is None:
            texts: Sequence[Any] = _flat(tensor.data or [])
        else:
            if not isinstance(size, int) or not 0 <= size <= len(binary):
                raise refused(f"{place}.parameters.binary_data_size", "is not what stands behind the JSON")
            texts, binary = _texts_of(binary[:size], place), binary[size:]
        columns[tensor.name] = _batch(texts, tensor, tensors, place)
    if binary:
        raise refused("inputs", f"claim {len(binary)} bytes less than stand behind the JSON")
    if len({len(column) for column in columns.values()}) > 1:
        raise refused("inputs", "must have the same first axis: that of the batch")
    return [shared | dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]


def _check_parameters(tensor: InputTensor, place: str) -> None:
    """Refuse what would change how a tensor is read, such as shared memory. Raises: InvalidRequestError."""
    if not tensor.parameters.keys() <= {BINARY_SIZE, CONTENT_TYPE}:
        raise refused(f"{place}.parameters", f"must have nothing but {BINARY_SIZE} and {CONTENT_TYPE}")
    if tensor.parameters.get(CONTENT_TYPE, "str") != "str":
        raise refused(f"{place}.parameters.{CONTENT_TYPE}", "must be str: texts are read as they are")
    if BINARY_SIZE in tensor.parameters and tensor.data:
        raise refused(f"{place}.data", f"and {BINARY_SIZE} are both given; leave one of them out")


def _batch(texts: Sequence[Any], tensor: InputTensor, tensors: Signature, place: str) -> list[Any]:
    """Returns: a text, or a list of texts, for each item of the batch. Raises: InvalidRequestError."""
    axes = len(tensors.inputs[tensor.name].shape)
    shape = tensor.shape
    if len(shape) != axes and not (len(shape) == 1 and tensor.name in tensors.flat):
        expected = "[batch, texts]" if axes > 1 else "[batch]"
        raise refused(f"{place}.shape", f"must be {expected}, one axis for each")
    if math.prod(shape) != len(texts):
        raise refused(f"{place}.data", f"has {len(texts)} elements where its shape has {math.prod(shape)}")
    if not texts:
        raise refused(f"{place}.shape", "must not be empty")
    if len(shape) == 1:
        return list(texts)
    return [list(texts[start : start + shape[1]]) for start in range(0, len(texts), shape[1])]


def _flat(data: Sequence[Any]) -> list[Any]:
    """Flatten one level of nesting: no input has more than two axes."""
    return [text for part in data for text in (part if isinstance(part, list) else [part])]


def _texts_of(content: bytes, place: str) -> list[str]:
    """Read elements of BYTES in binary form. Raises: InvalidRequestError."""
    texts, position = [], 0
    while position < len(content):
        start = position + LENGTH.size
        position = start + (LENGTH.unpack(content[position:start])[0] if start <= len(content) else 0)
        if position > len(content) or start > len(content):
            raise refused(place, "ends within an element; each is its length, 4 bytes little-endian, and its bytes")
        try:
            texts.append(content[start:position].decode())
        except UnicodeDecodeError:
            raise refused(place, f"element {len(texts)} is not UTF-8") from None
    return texts


def refused(field: str, message: str) -> InvalidRequestError:
    return InvalidRequestError(f"{field}: {message}", errors=[InvalidField(field=field, message=message)])


def wanted(request: InferRequest, tensors: Signature) -> dict[str, bool]:
    """Returns: the outputs that are asked for, and whether each comes in binary form. Raises: InvalidRequestError."""
    by_default = _is_true(request.parameters, BINARY_OUTPUT, "parameters", default=False)
    if not request.outputs:
        return dict.fromkeys(tensors.outputs, by_default)
    for index, output in enumerate(request.outputs):
        if output.name not in tensors.outputs:
            known = ", ".join(tensors.outputs)
            raise refused(f"outputs[{index}].name", f"is none of the model's outputs; they are {known}")
        if not output.parameters.keys() <= {BINARY_DATA}:
            raise refused(f"outputs[{index}].parameters", f"must have nothing but {BINARY_DATA}")
    return {
        output.name: _is_true(output.parameters, BINARY_DATA, f"outputs[{index}].parameters", default=by_default)
        for index, output in enumerate(request.outputs)
    }


def _is_true(parameters: Mapping[str, object], name: str, place: str, *, default: bool) -> bool:
    """Raises: InvalidRequestError."""
    value = parameters.get(name, default)
    if not isinstance(value, bool):
        raise refused(f"{place}.{name}", "must be true or false")
    return value


def tensors_json(
    answers: Sequence[bytes], tensors: Signature, forms: Mapping[str, bool]
) -> tuple[list[bytes], list[bytes]]:
    """Write the answers to a batch. `answers`: in JSON; `forms`: as `wanted`.

    Returns: the JSON of each tensor, and what stands behind all of it. One answer at a time, as in `vectors_json`.
    """
    contents: list[dict[str, Any]] = [from_json(answer) for answer in answers]
    written: list[bytes] = []
    behind: list[bytes] = []
    for name, is_binary in forms.items():
        values = [content[name] for content in contents]
        if tensors.outputs[name].datatype == NUMBER:
            arrays = [np.array(value, "<f8") for value in values]
            shape = [len(arrays), *arrays[0].shape]
            elements = [to_json(array.ravel().tolist())[1:-1] for array in arrays]
            binary = [array.tobytes() for array in arrays]
        else:
            texts = [to_json(value) for value in values]
            shape, elements = [len(texts)], [to_json(text.decode()) for text in texts]
            binary = [LENGTH.pack(len(text)) + text for text in texts]
        head = {"name": name, "datatype": tensors.outputs[name].datatype, "shape": shape}
        if is_binary:
            behind += binary
            written.append(to_json(head | {"parameters": {"binary_data_size": sum(map(len, binary))}}))
        else:
            written.append(b'%s,"data":[%s]}' % (to_json(head)[:-1], b",".join(filter(None, elements))))
    return written, behind
