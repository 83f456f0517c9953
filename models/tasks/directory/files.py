"""Reads the JSON files of a model's directory, or says in one line what is wrong with them."""

import json
from pathlib import Path
from typing import Any

from models.tasks.errors import InputError

CONFIG = "config.json"
TOKENIZER = "tokenizer.json"
TOKENIZER_CONFIG = "tokenizer_config.json"
LFS_POINTER = b"version https://git-lfs"  # how the text begins that Git has in place of a large file
NOT_TEXT = {  # by the first bytes, and what to do
    b"\x1f\x8b": "is compressed by gzip; unpack it",
    b"BZh": "is compressed by bzip2; unpack it",
    b"\xfd7zXZ": "is compressed by xz; unpack it",
    b"(\xb5/\xfd": "is compressed by zstd; unpack it",
    b"PK\x03\x04": "is a ZIP archive, or made by Office; unpack it, or save it as text in UTF-8",
    b"PAR1": "is Parquet; write its rows as text in UTF-8",
    LFS_POINTER: "is a pointer of Git LFS; fetch the file with git lfs pull",
}
UTF16_BOMS = (b"\xff\xfe", b"\xfe\xff")
NULS = b"\0\0"


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


def not_text(beginning: bytes) -> str | None:
    """Say what a file is instead of text in UTF-8, and what to do, by its first bytes; None if they do not tell."""
    is_utf16 = beginning.startswith(UTF16_BOMS) or (len(beginning) > 3 and NULS in (beginning[:4:2], beginning[1:4:2]))
    if is_utf16:
        return "is not UTF-8 at byte 0 (line 1), but UTF-16; save it as UTF-8"
    return next((advice for magic, advice in NOT_TEXT.items() if beginning.startswith(magic)), None)


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
