"""Defines manifest.json: what a bundle says of its origin, its checks and its files.

Run as a module, it prints the JSON Schema, which is published as docs/manifest.schema.json.
"""

import json
import operator
import sys
from functools import reduce
from pathlib import PurePosixPath
from types import GenericAlias
from typing import Annotated, Any, Literal

from pydantic import (
    Field,
    FiniteFloat,
    GetJsonSchemaHandler,
    SerializeAsAny,
    TypeAdapter,
    ValidationInfo,
    field_validator,
)
from pydantic.json_schema import JsonSchemaValue

from models.tasks.base import AnySpec, Count, GoldenRecord, Record
from models.tasks.build import SPECS, KnownTask

SCHEMA_VERSION = 1
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class TeacherRecord(Record):
    """A model whose outputs the student learned; `source` is what its own training began from, null if unknown."""

    name: str
    architecture: str
    layers: Count
    hidden_size: Count
    source: str | None


class TrainingRecord(Record):
    """How a checkpoint came to be; `source` names the model that it began from, or its teachers."""

    command: str
    seed: int
    seconds: FiniteFloat
    source: str
    teachers: Annotated[
        tuple[TeacherRecord, ...],
        Field(description="whose outputs it learned; without teachers, those of the model that it began from"),
    ] = ()


class ModelRecord(Record):
    """A model; `bytes` are its weights on disk. `training` is null when the checkpoint came without a record of it."""

    name: str
    revision: Annotated[str, Field(description="SHA-256 of the weights, first 12 hexadecimal characters")]
    architecture: str
    parameters: Count
    layers: Count
    hidden_size: Count
    bytes: Count
    training: TrainingRecord | None


class DataRecord(Record):
    """A file that trained or judged the models; licence and source are null where nobody stated them."""

    name: str
    sha256: Sha256
    bytes: Count
    used_for: Literal["train", "dev"]
    source: str | None
    licence: str | None


class Metrics(Record):
    """Figures of the three models on the data file named `data`. A model that was not measured is null."""

    data: str
    teacher: dict[str, FiniteFloat] | None
    student_fp32: dict[str, FiniteFloat]
    student_int8: dict[str, FiniteFloat] | None


class Checks(Record):
    """What the export verified before it wrote the bundle."""

    parity_inputs: Count
    max_logit_difference: Annotated[
        FiniteFloat, Field(description="largest absolute difference of fp32 ONNX to the model that went in")
    ]
    metric_drop: Annotated[FiniteFloat | None, Field(description="points that int8 loses on the task's metric")]
    agreement: Annotated[
        FiniteFloat | None,
        Field(
            description="percent of the fp32 graph's answers to the dev file that int8 keeps: best spans or labels; of "
            "embeddings, 100 times the mean cosine"
        ),
    ] = None
    agreement_inputs: Annotated[Count | None, Field(description="inputs of the dev file that were compared")] = None
    neighbour_overlap: Annotated[
        FiniteFloat | None,
        Field(description="share of each embedding's ten nearest neighbours by the fp32 graph that int8 keeps, 0 to 1"),
    ] = None
    neighbour_inputs: Annotated[Count | None, Field(description="distinct texts among which they were found")] = None
    rewrite_difference: Annotated[
        FiniteFloat | None,
        Field(
            description="mean difference of the int8 graph to itself before its rewrites, a share of the largest logit"
        ),
    ] = None


class Quantization(Record):
    """Settings of the int8 graph."""

    method: Literal["dynamic"]
    weight_type: Literal["int8"]
    per_channel: bool
    embeddings: Annotated[Literal["per_row", "float"], Field(description="per_row: a scale for each row")]
    reduce_range: bool
    float_nodes: Annotated[tuple[str, ...], Field(description="graph nodes kept in float")]
    smoothed_nodes: Annotated[
        tuple[str, ...],
        Field(description="products whose weights took over the outliers of what they multiply"),
    ] = ()


class GraphRecord(Record):
    """How the graph was changed, and how it is to be opened so that what was proven is what is served."""

    rewrites: Annotated[tuple[str, ...], Field(description="what export/rewrites did, in order")]
    disabled_optimizers: Annotated[tuple[str, ...], Field(description="fusions of onnxruntime's to leave out")]


class OneListForEachTask:
    """Publishes `golden` as what it may be: a list of the records of any one task."""

    def __get_pydantic_json_schema__(self, _: object, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        any_task: Any = reduce(operator.or_, map(golden_type, SPECS.values()))  # a union, of which no type tells
        return handler(TypeAdapter(any_task).core_schema)


Golden = Annotated[tuple[SerializeAsAny[GoldenRecord], ...], OneListForEachTask()]


class FileRecord(Record):
    """A file of the bundle; `path` is relative, with forward slashes."""

    path: str
    bytes: Count
    sha256: Sha256

    @field_validator("path")
    @classmethod
    def _stays_inside(cls, path: str) -> str:
        parts = PurePosixPath(path)
        if not parts.parts or parts.is_absolute() or ".." in parts.parts or "\\" in path or ":" in path:
            raise ValueError(f"{path!r} points outside the bundle")
        return path


class Manifest(Record):
    """manifest.json, schema version 1."""

    schema_version: Literal[1]
    task: KnownTask
    name: Annotated[str, Field(min_length=1)]
    student: ModelRecord
    teacher: ModelRecord | None
    data: tuple[DataRecord, ...]
    command: Annotated[str, Field(description="the export command that wrote the bundle")]
    seed: Annotated[int, Field(description="seed of the inputs drawn for the checks")]
    tools: Annotated[dict[str, str], Field(description="versions of the libraries that made the bundle")]
    opset: int
    quantization: Quantization | None
    graph: GraphRecord | None = None
    metrics: Metrics
    checks: Checks
    golden: Golden
    files: Annotated[tuple[FileRecord, ...], Field(min_length=1)]

    @field_validator("golden", mode="before")
    @classmethod
    def _are_of_the_task(cls, golden: object, info: ValidationInfo) -> object:
        spec = SPECS.get(info.data.get("task", ""))
        if spec is None or not isinstance(golden, list):  # Python code hands over records; JSON has lists
            return golden
        return TypeAdapter(golden_type(spec)).validate_json(json.dumps(golden))


def golden_type(spec: AnySpec) -> Any:  # a type, of which no type tells
    """Make the type of a task's golden answers: a tuple of its records."""
    return GenericAlias(tuple, (spec.record_type, ...))


def manifest_schema() -> str:
    """Write the published JSON Schema of manifest.json."""
    return json.dumps(Manifest.model_json_schema(), indent=2) + "\n"


if __name__ == "__main__":
    sys.stdout.write(manifest_schema())
