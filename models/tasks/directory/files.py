"""Reads the JSON files of a model's directory, or says in one line what is wrong with them."""

import json
from pathlib import Path
from typing import Any

from models.tasks.errors import InputError

CONFIG = "config.json"
TOKENIZER = "tokenizer.json"
TOKENIZER_CONFIG = "tokenizer_config.json"
LFS_POINTER = b"version https://git-lfs"  # how the text begins that Git has in place of a large file


class BundleError(InputError):
    """The directory cannot be served; the text is one line that names the file and says what to do."""


def remedy(path: Path, usual: str) -> str:
    """Say what to do about a file that cannot be read: fetch it, if it is a pointer of Git LFS, else what is usual."""
    try:
        with path.open("rb") as file:
            is_pointer = file.read(len(LFS_POINTER)) == LFS_POINTER
    except OSError:
        is_pointer = False
    return "it is a pointer of Git LFS; fetch the file with git lfs pull" if is_pointer else usual


def read_json(path: Path) -> dict[str, Any]:  # whatever its authors wrote
    """Read a JSON object. Raises: BundleError."""
    try:
        content = json.loads(path.read_bytes())
    except FileNotFoundError as error:
        raise BundleError(f"{path} is missing; copy it from the model's checkpoint") from error
    except OSError as error:
        raise BundleError(f"{path} cannot be read ({error.strerror}); correct its permissions") from error
    except (ValueError, RecursionError) as error:
        raise BundleError(f"{path} is not valid JSON ({error}); {remedy(path, 'restore it')}") from error
    if not isinstance(content, dict):
        raise BundleError(f"{path} must hold a JSON object; restore it")
    return content


def read_optional_json(path: Path) -> dict[str, Any]:  # as above
    """Read a JSON object; an empty one if there is no such file. Raises: BundleError."""
    return read_json(path) if path.exists() else {}
