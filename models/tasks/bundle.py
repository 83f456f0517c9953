"""The bundle: a directory in the layout of a Hugging Face repository, plus the manifest that vouches for its files.

Run as a module, it prints the manifest's JSON Schema, which is published as docs/manifest.schema.json.
"""

import hashlib
import json
import logging
import sys
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, FiniteFloat, ValidationError, field_validator
from tokenizers import Tokenizer

from models.tasks.base import MAX_WINDOW_TOKENS

logger = logging.getLogger(__name__)

SCHEMA_VERSION = 1
MANIFEST = "manifest.json"
CONFIG = "config.json"
TOKENIZER = "tokenizer.json"
INT8_MODEL = "onnx/model_quantized.onnx"
FP32_MODEL = "onnx/model.onnx"
MODEL_FILES = (INT8_MODEL, FP32_MODEL, "model_quantized.onnx", "model.onnx")  # best first; the last two are foreign

TaskName = Literal["qa", "classify", "similarity"]
Precision = Literal["int8", "fp32"]

# Fusions of onnxruntime's own that make a graph slower (docs/log.md), where the manifest does not say: of a bundle that
# was exported before it did, or by somebody else.
DISABLED_OPTIMIZERS: dict[Precision, frozenset[str]] = {"int8": frozenset({"SkipLayerNormFusion"}), "fp32": frozenset()}

TASK_OF_ARCHITECTURE: dict[str, TaskName] = {
    "ForQuestionAnswering": "qa",
    "ForSequenceClassification": "classify",
    "BertModel": "similarity",  # of every kind: DistilBertModel, RobertaModel
    "RobertaModel": "similarity",
    "MPNetModel": "similarity",
}
# These count positions from pad_token_id + 1, so that many of max_position_embeddings are never used.
OFFSET_POSITIONS = {"roberta", "xlm-roberta", "camembert", "mpnet", "roberta-prelayernorm"}

Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Count = Annotated[int, Field(ge=0)]


class BundleError(Exception):
    """The directory cannot be served; the text is one line that names the file and says what to do."""


class _Record(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class TrainingRecord(_Record):
    """How a checkpoint came to be; `source` names the model that it began from, or its teachers."""

    command: str
    seed: int
    seconds: FiniteFloat
    source: str


class ModelRecord(_Record):
    """A model; `bytes` are its weights on disk. `training` is null when the checkpoint came without a record of it."""

    name: str
    revision: Annotated[str, Field(description="SHA-256 of the weights, first 12 hexadecimal characters")]
    architecture: str
    parameters: Count
    layers: Count
    hidden_size: Count
    bytes: Count
    training: TrainingRecord | None


class DataRecord(_Record):
    """A file that trained or judged the models; licence and source are null where nobody stated them."""

    name: str
    sha256: Sha256
    bytes: Count
    used_for: Literal["train", "dev"]
    source: str | None
    licence: str | None


class Metrics(_Record):
    """Figures of the three models on the data file named `data`. A model that was not measured is null."""

    data: str
    teacher: dict[str, FiniteFloat] | None
    student_fp32: dict[str, FiniteFloat]
    student_int8: dict[str, FiniteFloat] | None


class Checks(_Record):
    """What the export verified before it wrote the bundle."""

    parity_inputs: Count
    max_logit_difference: Annotated[
        FiniteFloat, Field(description="largest absolute difference of fp32 ONNX to the model that went in")
    ]
    metric_drop: Annotated[FiniteFloat | None, Field(description="points that int8 loses on the task's metric")]
    rewrite_difference: Annotated[
        FiniteFloat | None,
        Field(description="of the int8 graph to itself before its rewrites: mean difference, of the largest logit"),
    ] = None


class Quantization(_Record):
    """Settings of the int8 graph."""

    method: Literal["dynamic"]
    weight_type: Literal["int8"]
    per_channel: bool
    embeddings: Annotated[Literal["per_row", "float"], Field(description="per_row: a scale for each row")]
    reduce_range: bool
    float_nodes: Annotated[tuple[str, ...], Field(description="graph nodes kept in float")]


class GraphRecord(_Record):
    """How the graph was changed, and how it is to be opened so that what was proven is what is served."""

    rewrites: Annotated[tuple[str, ...], Field(description="what export/rewrites did, in order")]
    disabled_optimizers: Annotated[tuple[str, ...], Field(description="fusions of onnxruntime's to leave out")]


class GoldenAnswer(_Record):
    """An input and the answer that this bundle gave to it when it was exported; offsets in code points."""

    question: str
    context: str
    text: str
    start: Count
    end: Count
    score: FiniteFloat


class GoldenLabels(_Record):
    """A text, or a pair, and the score that this bundle gave to each label when it was exported."""

    text: str
    text_pair: str | None
    labels: dict[str, FiniteFloat]


class GoldenEmbedding(_Record):
    """A text and the embedding, of unit length, that this bundle gave to it when it was exported."""

    text: str
    embedding: tuple[FiniteFloat, ...]


Golden = tuple[GoldenAnswer, ...] | tuple[GoldenLabels, ...] | tuple[GoldenEmbedding, ...]


class FileRecord(_Record):
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


class Manifest(_Record):
    """manifest.json, schema version 1."""

    schema_version: Literal[1]
    task: TaskName
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


@dataclass(frozen=True, slots=True)
class Bundle:
    """A directory whose files were checked; `revision` is the start of the manifest's (or the model's) SHA-256."""

    path: Path
    task: TaskName
    name: str
    revision: str
    precision: Precision
    model_path: Path
    config: dict[str, Any]  # whatever the model's authors wrote into config.json
    manifest: Manifest | None

    @property
    def disabled_optimizers(self) -> frozenset[str]:
        """The fusions of onnxruntime's that whoever opens the graph leaves out."""
        if self.manifest and self.manifest.graph:
            return frozenset(self.manifest.graph.disabled_optimizers)
        return DISABLED_OPTIMIZERS[self.precision]

    def load_tokenizer(self) -> Tokenizer:
        """Raises: BundleError."""
        path = self.path / TOKENIZER
        try:
            return Tokenizer.from_file(str(path))
        except Exception as error:  # the library raises nothing narrower
            raise BundleError(f"{path} is no tokenizer that can be read ({error}); restore the file") from error


def load_bundle(path: Path) -> Bundle:
    """Check every file that the manifest lists; without a manifest, warn and go by config.json.

    Raises: BundleError.
    """
    if not path.is_dir():
        raise BundleError(f"{path} is no directory; give the directory of an exported bundle")
    if (path / MANIFEST).exists():
        manifest = read_manifest(path)
        listed = {record.path for record in manifest.files}
        for needed in (CONFIG, TOKENIZER):
            if needed not in listed:
                raise BundleError(f"{path / MANIFEST} does not list {needed}; export the bundle again")
        for record in manifest.files:
            _check_file(path, record)
        model_file = next((file for file in MODEL_FILES if file in listed), None)
    else:
        manifest = None
        logger.warning("%s has no %s: its files are served unchecked", path, MANIFEST)
        model_file = next((file for file in MODEL_FILES if (path / file).is_file()), None)
    if model_file is None:
        raise BundleError(f"{path} holds no model ({' or '.join(MODEL_FILES)}); export it with python -m export")
    config = read_json(path / CONFIG)
    if not (path / TOKENIZER).is_file():
        raise BundleError(f"{path / TOKENIZER} is missing; save it from the model's fast tokenizer")
    return Bundle(
        path=path,
        task=manifest.task if manifest else task_from_config(path / CONFIG, config),
        name=manifest.name if manifest else path.resolve().name,
        revision=sha256_of(path / (MANIFEST if manifest else model_file))[:12],
        precision="int8" if "quantized" in model_file else "fp32",
        model_path=path / model_file,
        config=config,
        manifest=manifest,
    )


def read_manifest(path: Path) -> Manifest:
    """Raises: BundleError."""
    file = path / MANIFEST
    try:
        text = file.read_bytes()
        version = _peek_version(text)
        if version is not None and version != SCHEMA_VERSION:
            raise BundleError(
                f"{file} has schema_version {version!r} and this program reads {SCHEMA_VERSION}; "
                "use the version that wrote it or export the bundle again"
            )
        return Manifest.model_validate_json(text)
    except OSError as error:
        raise BundleError(f"{file} cannot be read ({error.strerror}); restore it") from error
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        what = f"{where}: {first['msg']}" if where else first["msg"]
        raise BundleError(f"{file} is not a valid manifest ({what}); restore it or export the bundle again") from error


def max_positions(config: dict[str, Any]) -> int:  # config.json, whatever its authors wrote
    """The longest input in tokens that the model's position embeddings allow. Raises: BundleError."""
    positions = config.get("max_position_embeddings", MAX_WINDOW_TOKENS)
    padding = config.get("pad_token_id") or 0
    if not isinstance(positions, int) or not isinstance(padding, int):
        raise BundleError(f"{CONFIG}: max_position_embeddings and pad_token_id must be whole numbers; correct them")
    unused = padding + 1 if config.get("model_type") in OFFSET_POSITIONS else 0
    if positions <= unused:
        raise BundleError(f"{CONFIG} has max_position_embeddings {positions!r}, too few for any input; correct it")
    return positions - unused


def read_json(path: Path) -> dict[str, Any]:  # whatever its authors wrote
    """Raises: BundleError."""
    try:
        content = json.loads(path.read_bytes())
    except FileNotFoundError as error:
        raise BundleError(f"{path} is missing; copy it from the model's checkpoint") from error
    except OSError as error:
        raise BundleError(f"{path} cannot be read ({error.strerror}); correct its permissions") from error
    except ValueError as error:
        raise BundleError(f"{path} is not valid JSON ({error}); restore it") from error
    if not isinstance(content, dict):
        raise BundleError(f"{path} must hold a JSON object; restore it")
    return content


def sha256_of(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _check_file(root: Path, record: FileRecord) -> None:
    path, remedy = root / record.path, "restore it or export the bundle again"
    if not path.is_file():
        raise BundleError(f"{path} is missing; {remedy}")
    size = path.stat().st_size
    if size != record.bytes:
        raise BundleError(f"{path} has {size} bytes where the manifest says {record.bytes}; {remedy}")
    try:
        digest = sha256_of(path)
    except OSError as error:
        raise BundleError(f"{path} cannot be read ({error.strerror}); correct its permissions") from error
    if digest != record.sha256:
        raise BundleError(f"{path} was altered: its SHA-256 is not the manifest's; {remedy}")


def _peek_version(text: bytes) -> object:
    """The schema version of whatever this is, so that a newer manifest is not blamed for its unknown fields."""
    try:
        content = json.loads(text)
    except ValueError:
        return None  # the validation that follows says where
    return content.get("schema_version") if isinstance(content, dict) else None


def task_from_config(path: Path, config: dict[str, Any]) -> TaskName:  # config: as read from `path`
    """Raises: BundleError."""
    given = config.get("architectures")
    names = [str(name) for name in given] if isinstance(given, list) else []
    for ending, task in TASK_OF_ARCHITECTURE.items():
        if any(name.endswith(ending) for name in names):
            return task
    raise BundleError(
        f"{path}: architectures {names} belong to no task here; "
        f"supported are names that end in {', '.join(TASK_OF_ARCHITECTURE)}"
    )


def manifest_schema() -> str:
    """The published JSON Schema of manifest.json."""
    return json.dumps(Manifest.model_json_schema(), indent=2) + "\n"


if __name__ == "__main__":
    sys.stdout.write(manifest_schema())
