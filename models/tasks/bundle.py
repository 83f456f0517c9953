"""Reads a bundle: a directory laid out as a Hugging Face repository, with a manifest of its files."""

import hashlib
import json
import logging
import os
import platform
from codecs import BOM_UTF8
from collections import defaultdict
from collections.abc import Callable, Collection
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path, PurePosixPath
from typing import Any

from pydantic import ValidationError

from models.tasks.base import TaskName
from models.tasks.build import SPECS, task_of_graph
from models.tasks.directory.files import CONFIG, TOKENIZER, BundleError, read_json, remedy
from models.tasks.directory.graph import Precision, Weights, read_weights
from models.tasks.directory.model import ModelDirectory
from models.tasks.directory.overrides import OVERRIDES, Overrides, read_overrides
from models.tasks.directory.tokenizer import check_tokenizer_file
from models.tasks.manifest import SCHEMA_VERSION, FileRecord, Manifest

logger = logging.getLogger(__name__)

MANIFEST = "manifest.json"
INT8_MODEL = "onnx/model_quantized.onnx"
FP32_MODEL = "onnx/model.onnx"

# Names of graphs, best first: what optimum, transformers.js and sentence-transformers call them. Each is looked for in
# onnx/, then beside config.json. "{cpu}" stands for each of the CPU's features, best first.
GRAPH_NAMES = (
    "model_quantized",
    "model_int8",
    "model_qint8_{cpu}",
    "model_quint8_{cpu}",
    "model_uint8",
    "model",
    "model_optimized",
    "model_O1",
    "model_O2",
    "model_O3",
    "model_fp16",
    "model_O4",
    "model_q4",
    "model_q4f16",
    "model_bnb4",
)
CPU_FEATURES = ("avx512_vnni", "avx512", "avx2", "arm64")

# onnxruntime's fusions that make a graph slower (docs/log/graph.md), where the manifest does not name them: in a
# bundle that was exported before manifests did, or by somebody else.
DISABLED_OPTIMIZERS: defaultdict[Precision, frozenset[str]] = defaultdict(
    frozenset, {"int8": frozenset({"SkipLayerNormFusion"})}
)


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a bundle was downloaded from: a repository on the Hub, the revision asked for, and the commit it meant."""

    repository: str
    revision: str
    commit: str


@dataclass(frozen=True, slots=True)
class Bundle(ModelDirectory):
    """A directory whose files were checked; `revision` is the start of a SHA-256 over all that is served.

    `origin` is None where the directory was given as such.
    """

    name: str
    revision: str
    precision: Precision
    model_path: Path
    manifest: Manifest | None
    origin: Origin | None = None

    @property
    def directory(self) -> str:
        """The name of the directory, or of the repository."""
        return self.origin.repository.rpartition("/")[2] if self.origin else self.path.name

    @property
    def file(self) -> str:
        """The graph, relative to the directory."""
        return self.model_path.relative_to(self.path).as_posix()

    @property
    def disabled_optimizers(self) -> frozenset[str]:
        """Onnxruntime's fusions that whoever opens the graph must leave out."""
        if self.manifest and self.manifest.graph:
            return frozenset(self.manifest.graph.disabled_optimizers)
        return DISABLED_OPTIMIZERS[self.precision]


def bundle_paths(root: Path) -> list[Path]:
    """List the bundles of a directory, or the directory itself if it is one.

    What is hidden, cannot be read, or has nothing of a bundle, such as `lost+found`, is passed over with a warning.

    Raises: BundleError.
    """
    try:
        if not root.is_dir():
            raise BundleError(f"{root} is not a directory; name one with bundles by HALFDEPTH_BUNDLES or --bundles")
        if _is_bundle(root):
            return [root]
        entries = sorted(root.iterdir())
    except OSError as error:
        raise BundleError(f"{root} cannot be read ({error.strerror}); correct its permissions") from error
    return [path for path in entries if _is_meant_as_bundle(path)]


def _is_bundle(path: Path) -> bool:
    """Tell a bundle from a directory of bundles, in which a stray config.json may stand. Raises: OSError."""
    names = set(os.listdir(path))
    return MANIFEST in names or {CONFIG, TOKENIZER} <= names or _has_graph(path)


def _is_meant_as_bundle(path: Path) -> bool:
    """Tell what is to be served, or stops the start if it is broken, from what is passed over."""
    reason = "it has no config.json, no manifest.json and no ONNX"
    try:
        if path.is_symlink() and not path.exists():
            reason = "it is a link to nothing"
        elif not path.is_dir():
            return False
        elif path.name.startswith("."):
            reason = "it is hidden"
        elif {CONFIG, MANIFEST} & set(os.listdir(path)) or _has_graph(path):
            return True
    except OSError as error:
        reason = f"it cannot be read ({error.strerror})"
    _warn_once(f"{path} is passed over: {reason}")
    return False


@cache
def _warn_once(message: str) -> None:
    """Log a warning the first time: a service may look at the same directories every few seconds."""
    logger.warning("%s", message)


def _has_graph(path: Path) -> bool:
    folders = (path, path / "onnx")
    return any(name.endswith(".onnx") for folder in folders if folder.is_dir() for name in os.listdir(folder))


def load_bundle(path: Path, task: TaskName | None = None, *, renames: bool = False) -> Bundle:
    """Check every file that the manifest lists; without a manifest, warn and go by the other files and the graph.

    `task`: what the caller uses it for, or else the task is found. `renames`: the caller gives outputs their names, so
    that a graph with those of no task may be one for it. Raises: BundleError, also if it is for another task.
    """
    if not path.is_dir():
        raise BundleError(f"{path} is not a directory; give the directory of an exported bundle")
    if (path / MANIFEST).exists():
        manifest = read_manifest(path)
        listed_files = {record.path for record in manifest.files}
        for file_name in (CONFIG, TOKENIZER):
            if file_name not in listed_files:
                raise BundleError(f"{path / MANIFEST} does not list {file_name}; export the bundle again")
        for record in manifest.files:
            _check_file(path, record)
    else:
        manifest = None
        listed_files = {file for folder in ("", "onnx") for file in _files_of(path, folder)}
        _warn_once(f"{path} has no {MANIFEST}: its files are served unchecked")
    overrides = read_overrides(path)
    model_file = _named_graph(path, overrides.file, listed_files) if overrides.file else best_graph(path, listed_files)
    config, weights = read_json(path / CONFIG), read_weights(path / model_file)
    if overrides.task not in (None, *SPECS):
        raise BundleError(f"{path / OVERRIDES}: {overrides.task!r} is not a task; the tasks are {', '.join(SPECS)}")
    check_tokenizer_file(path)
    return Bundle(
        path=path,
        task=_task(path, path / model_file, config, manifest, overrides.task, task, renames=renames),
        name=manifest.name if manifest else path.resolve().name,
        revision=_revision(path, model_file, weights, manifest),
        precision=weights.precision if weights else "fp32",
        model_path=path / model_file,
        config=config,
        manifest=manifest,
        overrides=overrides,
    )


def _files_of(path: Path, folder: str) -> list[str]:
    """List the files of a folder of a model's directory, relative to the latter."""
    parts = path / folder
    return [str(PurePosixPath(folder, name)) for name in os.listdir(parts)] if parts.is_dir() else []


def _named_graph(path: Path, file: str, listed_files: Collection[str]) -> str:
    """Take the graph that halfdepth.json names. Raises: BundleError unless it is a file of the directory."""
    relative = PurePosixPath(file)
    if relative.is_absolute() or ".." in relative.parts or not (path / file).is_file():
        raise BundleError(f"{path / OVERRIDES}: file {file!r} is not a file of this directory; correct it")
    if (path / MANIFEST).exists() and str(relative) not in listed_files:
        raise BundleError(f"{path / OVERRIDES}: {MANIFEST} does not list {file!r}; name one of its graphs")
    return str(relative)


def best_graph(source: Path | str, files: Collection[str]) -> str:
    """Choose by name the best graph of a directory or repository that this CPU can run. Raises: BundleError."""
    features = cpu_features()
    names = [name.format(cpu=feature) for name in GRAPH_NAMES for feature in (features if "{cpu}" in name else ("",))]
    best = next((file for name in names for file in (f"onnx/{name}.onnx", f"{name}.onnx") if file in files), None)
    if best is not None:
        return best
    if graphs := sorted(file for file in files if file.endswith(".onnx")):
        raise BundleError(
            f"{source}: none of {', '.join(graphs)} is known to run here; name one as file in {OVERRIDES}"
        )
    raise BundleError(f"{source} holds no model ({FP32_MODEL} or another graph); export it with halfdepth export")


def cpu_features(cpuinfo: Path = Path("/proc/cpuinfo"), machine: str = platform.machine()) -> tuple[str, ...]:
    """List what graphs may be made for that this CPU has, best first."""
    if machine.lower() in ("aarch64", "arm64"):
        return ("arm64",)
    lines = cpuinfo.read_text(encoding="utf-8").splitlines() if cpuinfo.is_file() else []
    flags = set(next((line.partition(":")[2].split() for line in lines if line.startswith("flags")), []))
    flags |= {"avx512"} & {flag.removesuffix("f") for flag in flags}
    return tuple(feature for feature in CPU_FEATURES if feature in flags)


def _revision(path: Path, model_file: str, weights: Weights | None, manifest: Manifest | None) -> str:
    """Digest all that is served: the manifest and halfdepth.json; without a manifest each file by itself."""
    if manifest:
        files = [MANIFEST, *((OVERRIDES,) if (path / OVERRIDES).exists() else ())]
    else:
        graph = PurePosixPath(model_file)
        settings = [file.relative_to(path) for file in path.rglob("*.json")]
        names = [str(PurePosixPath(file)) for file in settings if not any(part.startswith(".") for part in file.parts)]
        files = sorted([model_file, *(str(graph.parent / file) for file in (weights.files if weights else ())), *names])
    digests = [(file, sha256_of(path / file)) for file in files if (path / file).is_file()]
    if len(digests) == 1:
        return digests[0][1][:12]
    return hashlib.sha256(json.dumps(digests).encode()).hexdigest()[:12]


def _task(
    path: Path,
    graph: Path,
    config: dict[str, Any],  # as read
    manifest: Manifest | None,
    overridden: TaskName | None,
    asked: TaskName | None,
    *,
    renames: bool,
) -> TaskName:
    if manifest and overridden not in (None, manifest.task):
        raise BundleError(
            f"{path / OVERRIDES} says that the task is {overridden} and {MANIFEST} {manifest.task}; remove the former"
        )
    stated = manifest.task if manifest else overridden
    if stated and asked and stated != asked:
        raise BundleError(f"{path} is for the task {stated} and not for {asked}; use a different --task")
    return manifest.task if manifest else task_of_graph(graph, path, config, stated or asked, renames=renames)


def fp32_of(bundle: Bundle) -> Bundle | None:
    """Take a bundle's fp32 graph in place of int8. Returns: None if its manifest lists none."""
    listed_files = {record.path for record in bundle.manifest.files} if bundle.manifest else set()
    if bundle.precision == "fp32" or FP32_MODEL not in listed_files:
        return None
    return replace(bundle, precision="fp32", model_path=bundle.path / FP32_MODEL)


def as_exported(bundle: Bundle) -> Bundle:
    """Leave out what an operator says (halfdepth.json) of a bundle that records golden answers: without that."""
    return replace(bundle, overrides=Overrides()) if bundle.manifest else bundle


def golden_drift(bundle: Bundle, answer: Callable[[Any], Any]) -> float | None:  # of the task's inputs and results
    """Ask the golden inputs again, of a task of the bundle `as_exported`.

    Returns: the furthest that a result is from the recorded one; None without any.
    """
    if bundle.manifest is None or not bundle.manifest.golden:
        return None
    spec = SPECS[bundle.task]
    return max(spec.drift(record, answer(spec.replay(record))) for record in bundle.manifest.golden)


def read_manifest(path: Path) -> Manifest:
    """Read and validate the manifest of a bundle. Raises: BundleError."""
    file = path / MANIFEST
    try:
        text = file.read_bytes().removeprefix(BOM_UTF8)
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
        location = ".".join(str(part) for part in first["loc"])
        reason = f"{location}: {first['msg']}" if location else first["msg"]
        raise BundleError(
            f"{file} is not a valid manifest ({reason}); restore it or export the bundle again"
        ) from error


def sha256_of(path: Path) -> str:
    """Compute the SHA-256 of a file, in hexadecimal. Raises: OSError."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _check_file(root: Path, record: FileRecord) -> None:
    path, usual = root / record.path, "restore it or export the bundle again"
    if not path.is_file():
        raise BundleError(f"{path} is missing; {usual}")
    size = path.stat().st_size
    if size != record.bytes:
        raise BundleError(f"{path} has {size} bytes where the manifest says {record.bytes}; {remedy(path, usual)}")
    try:
        digest = sha256_of(path)
    except OSError as error:
        raise BundleError(f"{path} cannot be read ({error.strerror}); correct its permissions") from error
    if digest != record.sha256:
        raise BundleError(f"{path} was altered: its SHA-256 is not the manifest's; {usual}")


def _peek_version(text: bytes) -> object:
    """Read the schema version of whatever this is, so that a newer manifest is not blamed for unknown fields."""
    try:
        content = json.loads(text)
    except ValueError:
        return None  # the validation that follows says where
    return content.get("schema_version") if isinstance(content, dict) else None
