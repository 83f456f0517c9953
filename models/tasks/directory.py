"""Reads what every directory of a model has, bundle or checkpoint: config.json and the tokenizer."""

import json
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer

from models.tasks.base import MAX_WINDOW_TOKENS, ModelDirectory, TaskName
from models.tasks.errors import InputError

CONFIG = "config.json"
TOKENIZER = "tokenizer.json"
# These count positions from pad_token_id + 1, so that many of max_position_embeddings are never used.
OFFSET_POSITIONS = {"roberta", "xlm-roberta", "camembert", "mpnet", "roberta-prelayernorm"}


class BundleError(InputError):
    """The directory cannot be served; the text is one line that names the file and says what to do."""


def read_directory(path: Path, task: TaskName) -> ModelDirectory:
    """Read the configuration of a directory, for this task. Raises: BundleError."""
    return ModelDirectory(path, task, read_json(path / CONFIG))


def load_tokenizer(path: Path) -> Tokenizer:
    """Read the tokenizer of the directory `path`. Raises: BundleError."""
    file = path / TOKENIZER
    try:
        return Tokenizer.from_file(str(file))
    except Exception as error:  # the library raises nothing narrower
        raise BundleError(f"{file} is not a readable tokenizer ({error}); restore the file") from error


def max_positions(config: dict[str, Any]) -> int:  # config.json, whatever its authors wrote
    """Returns: the longest input in tokens that the model's position embeddings allow. Raises: BundleError."""
    positions = config.get("max_position_embeddings", MAX_WINDOW_TOKENS)
    padding = config.get("pad_token_id") or 0
    if not isinstance(positions, int) or not isinstance(padding, int):
        raise BundleError(f"{CONFIG}: max_position_embeddings and pad_token_id must be whole numbers; correct them")
    unused = padding + 1 if config.get("model_type") in OFFSET_POSITIONS else 0
    if positions <= unused:
        raise BundleError(f"{CONFIG} has max_position_embeddings {positions!r}, too few for any input; correct it")
    return positions - unused


def read_json(path: Path) -> dict[str, Any]:  # whatever its authors wrote
    """Read a JSON object. Raises: BundleError."""
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


def read_optional_json(path: Path) -> dict[str, Any]:  # as above
    """Read a JSON object; an empty one if there is no such file. Raises: BundleError."""
    return read_json(path) if path.exists() else {}
