"""Reads a bundle: a directory laid out as a Hugging Face repository, with a manifest of its files."""

import hashlib
import json
import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from tokenizers import Tokenizer

from models.tasks.base import MAX_WINDOW_TOKENS, Precision, TaskName
from models.tasks.errors import InputError
from models.tasks.manifest import SCHEMA_VERSION, FileRecord, Manifest

logger = logging.getLogger(__name__)

MANIFEST = "manifest.json"
CONFIG = "config.json"
TOKENIZER = "tokenizer.json"
INT8_MODEL = "onnx/model_quantized.onnx"
FP32_MODEL = "onnx/model.onnx"
MODEL_FILES = (INT8_MODEL, FP32_MODEL, "model_quantized.onnx", "model.onnx")  # best first; the last two are foreign


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


class BundleError(InputError):
    """The directory cannot be served; the text is one line that names the file and says what to do."""


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
