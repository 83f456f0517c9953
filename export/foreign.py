"""Reads an ONNX file that was exported elsewhere, and knows what it gives on its own inputs."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
from numpy.typing import NDArray
from onnx import helper, inliner

from export.checkpoint import ExportError
from export.graph.normalize import (
    AXES,
    HALF_TYPES,
    IDS,
    MASK,
    POSITIONS,
    TYPES,
    Output,
    check_logits,
    check_operators,
    check_shapes,
    input_roles,
    normalize,
)
from models.tasks.base import AnySpec, Features, Outputs, Run
from models.tasks.directory.files import LFS_POINTER, BundleError
from models.tasks.directory.model import padding_before_positions
from models.tasks.errors import first_line
from models.tasks.session import open_graph
from models.tasks.similarity import POOLED, STATES, TOKEN_OUTPUTS

MAX_BYTES = 2**31 - 1  # of a protocol buffer, and with it of an ONNX file without another beside it
PROBES = ((2, 5), (3, 8))  # inputs and tokens: what differs in an output's two shapes follows the one or the other

Array = NDArray[Any]  # of whatever type a graph takes or gives


@dataclass(frozen=True, slots=True)
class ForeignGraph:
    """A graph as our export would have written it, and the run of the file that it was read from.

    `reference`: for outputs of `model` by name, the run that gives them as the file does. `is_half`: the file computes
    in 16 bits, so that the two agree to that many.
    """

    model: onnx.ModelProto
    output_names: tuple[str, ...]
    reference: Callable[[Sequence[str]], Run]
    is_half: bool


def read_onnx(path: Path) -> onnx.ModelProto:
    """Read a graph with weights that lie beside it. Raises: ExportError."""
    with path.open("rb") as file:
        start = file.read(len(LFS_POINTER))
    if start == LFS_POINTER:
        raise ExportError(f"{path} is a Git LFS pointer and not the model; fetch it with git lfs pull")
    if not start:
        raise ExportError(f"{path} is empty; export or download it again")
    try:
        model = onnx.load(path)
    except Exception as error:  # of protobuf, of the checker or of the operating system
        raise ExportError(f"{path} cannot be read ({first_line(error)}); export or download it again") from error
    if not model.graph.node or not model.graph.output:
        raise ExportError(f"{path} is not an ONNX model; export or download it again")
    return model


def read_foreign(path: Path, spec: AnySpec, config: Mapping[str, object]) -> ForeignGraph:
    """Read a graph for this task and normalize it. `config`: of config.json. Raises: ExportError, BundleError."""
    model = read_onnx(path)
    try:
        return _normalized(path, model, spec, config)
    except ExportError as error:
        raise ExportError(f"{path} {error}") from error


def _normalized(path: Path, model: onnx.ModelProto, spec: AnySpec, config: Mapping[str, object]) -> ForeignGraph:
    model = inliner.inline_local_functions(model)
    check_operators(model)
    roles = input_roles(model.graph, config)
    check_shapes(model.graph, roles)
    padding = padding_before_positions(config)
    try:
        session = open_graph(path, threads=1, exact_products=True)
    except BundleError as error:
        reason = str(error.__cause__ or error).partition("\n")[0]
        raise ExportError(f"cannot be opened by onnxruntime ({reason}); export it again, in float32") from error
    run = _runner(session, roles, padding)
    shapes = _output_shapes(session, run)
    outputs = _kept_outputs(shapes, spec, config)
    check_logits(model.graph, [output.name for output in outputs if output.new_name not in (STATES, POOLED)])
    is_half = any(tensor.data_type in HALF_TYPES for tensor in model.graph.initializer)
    normalize(model, roles, outputs, padding)
    if (size := model.ByteSize()) > MAX_BYTES:
        raise ExportError(f"takes {size / 1e9:.1f} GB in float32, more than one ONNX file holds; give a smaller model")
    names = {output.new_name: output.name for output in outputs}

    def reference(output_names: Sequence[str]) -> Run:
        originals = [names[name] for name in output_names]

        def forward(features: Features) -> Outputs:
            arrays = {IDS: features.input_ids[None], TYPES: features.token_type_ids[None]}
            return tuple(np.asarray(output[0], np.float32) for output in run(originals, arrays))

        return forward

    return ForeignGraph(model, tuple(names), reference, is_half)


GraphRun = Callable[[Sequence[str], Mapping[str, Array]], list[Array]]


def _runner(session: ort.InferenceSession, roles: Mapping[str, str], padding: int | None) -> GraphRun:
    """Make the forward pass of unpadded inputs in the types that the graph takes. Shapes: (batch, seq_len)."""
    types = {value.name: _numpy_type(value.type) for value in session.get_inputs()}

    def run(output_names: Sequence[str], arrays: Mapping[str, Array]) -> list[Array]:
        ids = arrays[IDS]
        tokens = np.ones_like(ids) if padding is None else (ids != padding).astype(np.int64)
        positions = tokens.cumsum(axis=1) - 1 if padding is None else tokens.cumsum(axis=1) * tokens + padding
        feeds = {MASK: np.ones_like(ids), POSITIONS: positions, **arrays}
        return session.run(  # type: ignore[no-any-return]  # onnxruntime has no types
            list(output_names), {name: feeds[role].astype(types[name]) for name, role in roles.items() if name in types}
        )

    return run


def _numpy_type(name: str) -> np.dtype[Any]:  # as `Array`
    """Turn a type as onnxruntime writes it, such as tensor(int64), into numpy's."""
    kind = name.removeprefix("tensor(").removesuffix(")").upper()
    return helper.tensor_dtype_to_np_dtype(onnx.TensorProto.DataType.Value(kind))


Shape = tuple[str | int, ...]


def _output_shapes(session: ort.InferenceSession, run: GraphRun) -> dict[str, Shape]:
    """Find the shape of every float output, by running the graph on inputs of two sizes. Raises: ExportError."""
    names = [value.name for value in session.get_outputs() if "float" in value.type]
    observed_shapes = []
    for batch, length in PROBES:
        ids = np.full((batch, length), 3, np.int64)
        try:
            outputs = run(names, {IDS: ids, TYPES: np.zeros_like(ids)})
        except Exception as error:  # onnxruntime's errors share no narrower class
            raise ExportError(
                f"cannot read {batch} inputs of {length} tokens ({first_line(error)}); "
                "export it again with dynamic axes for batch and length"
            ) from error
        observed_shapes.append([output.shape for output in outputs])
    axes: dict[tuple[int, ...], str] = dict(zip(zip(*PROBES, strict=True), AXES, strict=True))
    return {
        name: tuple(axes.get(sizes, sizes[0]) for sizes in zip(*shapes, strict=True))
        for name, *shapes in zip(names, *observed_shapes, strict=True)
        if len(set(map(len, shapes))) == 1
    }


def _kept_outputs(shapes: Mapping[str, Shape], spec: AnySpec, config: Mapping[str, object]) -> list[Output]:
    """Choose the outputs that the task reads: by their names, or else by the only shape that fits.

    Raises: ExportError without the file's name.
    """
    found = {name: name for name in spec.graph_outputs if name in shapes}
    if STATES in spec.graph_outputs and (names := [name for name in TOKEN_OUTPUTS if name in shapes]):
        found[STATES] = names[0]
    optional = {POOLED} if POOLED not in found else {STATES}  # a graph that pools needs no states, and the reverse
    missing_names = [name for name in spec.graph_outputs if name not in found and name not in optional]
    candidates = [name for name in shapes if name not in found.values()]
    for position, name in enumerate(missing_names):
        fitting = [other for other in candidates if _fits(shapes[other], _expected_shape(name, spec, config))]
        hinted = [other for other in fitting if name.partition("_")[0] in other.lower()]
        if len(hinted) == 1:
            found[name] = hinted[0]
        elif len(fitting) == len(missing_names):
            found[name] = fitting[position]
    misfits = [name for name in found if not _fits(shapes[found[name]], _expected_shape(name, spec, {}))]
    if misfits or set(missing_names) - set(found) or len(set(found.values())) < len(found):
        described = ", ".join(f"{name} ({', '.join(map(str, shape))})" for name, shape in shapes.items())
        wanted = " and ".join(misfits or missing_names)
        raise ExportError(
            f"gives {described or 'no floats'}, where {wanted} cannot be told; rename its outputs, or export it again "
            "for this task"
        )
    return [Output(found[name], name, shapes[found[name]]) for name in spec.graph_outputs if name in found]


def _expected_shape(name: str, spec: AnySpec, config: Mapping[str, object]) -> tuple[str | int | None, ...]:
    """Returns: the shape of an output; None where any size will do."""
    if name == STATES:
        return (*AXES, None)
    if name in spec.token_outputs:
        return AXES
    if name == POOLED:
        return (AXES[0], None)
    labels = config.get("id2label")
    return (AXES[0], len(labels) if isinstance(labels, dict) else None)


def _fits(shape: Shape, expected: Sequence[str | int | None]) -> bool:
    return len(shape) == len(expected) and all(
        want in (None, size) and (want is not None or isinstance(size, int))
        for size, want in zip(shape, expected, strict=True)
    )
