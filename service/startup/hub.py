"""Downloads models of the Hugging Face Hub, by name, into the cache of huggingface_hub."""

import errno
import logging
import re
import sys
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import replace
from http import HTTPStatus
from pathlib import Path, PurePosixPath

from models.tasks.bundle import MANIFEST, Bundle, Origin, best_graph, load_bundle, read_manifest
from models.tasks.directory.files import CONFIG, TOKENIZER, BundleError
from models.tasks.directory.graph import read_weights
from models.tasks.directory.overrides import read_overrides
from models.tasks.errors import first_line

logger = logging.getLogger(__name__)

NAME = re.compile(r"(?P<repository>\w[\w.-]*/\w[\w.-]*)(@(?P<revision>.+))?")
DEFAULT_REVISION = "main"
SETTINGS = ["*.json"]  # whatever the loader reads beside graphs, and nothing that is large
STORAGE_ERRORS = {errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOSPC, errno.EDQUOT, errno.ENOENT, errno.ENOTDIR}


def is_hub_name(name: str) -> bool:
    """Tell `org/name` and `org/name@revision` from directories. Raises: OSError."""
    return NAME.fullmatch(name) is not None and not Path(name).is_dir()


def load_from_hub(name: str) -> Bundle:
    """Download what is served of a repository and is not in the cache, then check it as any bundle.

    The cache, the token, the endpoint and the offline mode are those of huggingface_hub (`HF_HOME`, `HF_TOKEN`,
    `HF_ENDPOINT`, `HF_HUB_OFFLINE`). A download that broke off continues where it stopped.

    Raises: BundleError.
    """
    match = NAME.fullmatch(name)
    assert match is not None
    repository, revision = match["repository"], match["revision"] or DEFAULT_REVISION
    path = _download(name, repository, revision)
    bundle = load_bundle(path)
    return replace(
        bundle,
        name=bundle.name if bundle.manifest else repository,
        origin=Origin(repository, revision, commit=path.name),
    )


def _download(name: str, repository: str, revision: str) -> Path:
    """Returns: the directory of the commit in the cache. Raises: BundleError."""
    # Here, since importing it takes longer than all of ours, and most starts need none of it.
    from huggingface_hub import constants, hf_hub_download, model_info, snapshot_download
    from huggingface_hub.utils.tqdm import disable_progress_bars

    logging.getLogger("huggingface_hub").handlers.clear()  # its lines come in the form of ours
    if not sys.stderr.isatty() and constants.HF_HUB_DISABLE_PROGRESS_BARS is None:
        disable_progress_bars()
    with _explained(name):
        path = Path(snapshot_download(repository, revision=revision, allow_patterns=SETTINGS))
    commit = path.name
    try:
        files = [file.rfilename for file in model_info(repository, revision=commit).siblings or ()]
    except Exception as error:  # of the library, or of its HTTP client
        reason = "HF_HUB_OFFLINE is set" if constants.HF_HUB_OFFLINE else type(error).__name__
        logger.warning("%s: the Hub cannot be asked (%s); commit %s is served from the cache", name, reason, commit)
        _check_complete(name, path)
        return path
    # One after the other on this thread, which a signal ends at once; the library's pool would finish its files first.
    for file in _served_files(name, path, files):
        if file in files:  # what is listed and missing is told when the bundle is loaded
            with _explained(name):
                hf_hub_download(repository, file, revision=commit)
    return path


def _served_files(name: str, path: Path, files: Collection[str]) -> Iterator[str]:
    """List what is served of a repository with these files; each must be there before the next is asked for.

    Raises: BundleError.
    """
    if MANIFEST in files:
        yield from (record.path for record in read_manifest(path).files)
        return
    yield from (CONFIG, TOKENIZER)
    graph = read_overrides(path).file or best_graph(name, files)
    yield graph
    weights = read_weights(path / graph) if graph in files else None
    yield from (str(PurePosixPath(graph).parent / file) for file in (weights.files if weights else ()))


def _check_complete(name: str, path: Path) -> None:
    """Refuse a commit of which the cache holds a part. Raises: BundleError."""
    files = {file.relative_to(path).as_posix() for file in path.rglob("*") if file.is_file()}
    missing = "the graph"
    if any(file.endswith(".onnx") for file in files):
        missing = next((file for file in _served_files(name, path, files) if file not in files), "")
    if missing:
        raise BundleError(
            f"{name} is not complete in the cache ({missing} is missing), and the Hub cannot be asked; start once "
            "with access to it"
        )


@contextmanager
def _explained(name: str) -> Iterator[None]:
    """Say in one line why a download failed. Raises: BundleError."""
    from huggingface_hub import constants, errors

    hub = constants.ENDPOINT
    try:
        yield
    except errors.GatedRepoError as error:
        raise BundleError(f"{name} is gated: accept its terms at {hub}, and set HF_TOKEN to your token") from error
    except errors.RepositoryNotFoundError as error:
        raise BundleError(
            f"{name} is not a directory, and {hub} has no such repository, or a private one; correct the name, or set "
            "HF_TOKEN to a token that may read it"
        ) from error
    except errors.RevisionNotFoundError as error:
        raise BundleError(
            f"{name}: the repository has no such revision; name a branch, a tag or the whole hash of a commit"
        ) from error
    except errors.HFValidationError as error:
        raise BundleError(f"{name} is not a name on the Hugging Face Hub ({first_line(error)}); correct it") from error
    except errors.LocalEntryNotFoundError as error:
        reason = "HF_HUB_OFFLINE is set" if constants.HF_HUB_OFFLINE else f"{hub} does not answer"
        raise BundleError(
            f"{name} is neither a directory nor in the cache {constants.HF_HUB_CACHE}, and {reason}; correct the name, "
            "or start once with access to the Hub"
        ) from error
    except Exception as error:  # of the library, or of its HTTP client, which changed with version 1
        status = getattr(getattr(error, "response", None), "status_code", None)
        if status in (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN):
            raise BundleError(f"{name}: {hub} refuses the token; set HF_TOKEN to one that may read it") from error
        if isinstance(error, OSError) and error.errno in STORAGE_ERRORS:
            raise BundleError(
                f"{name} cannot be stored in {constants.HF_HUB_CACHE} ({error.strerror}); set HF_HOME to a directory "
                "that has room and may be written"
            ) from error
        raise BundleError(
            f"{name} could not be downloaded ({first_line(error)}); start again, and it continues where it stopped"
        ) from error
