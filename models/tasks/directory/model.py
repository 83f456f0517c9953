"""Describes a directory that holds a model, bundle or checkpoint: its configuration, and an operator's word on it."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from models.tasks.directory.files import CONFIG, BundleError, read_json
from models.tasks.directory.overrides import Overrides, read_overrides

DEFAULT_POSITIONS = 384
# These count positions from pad_token_id + 1, so that many of max_position_embeddings are never used.
OFFSET_POSITIONS = {"roberta", "xlm-roberta", "camembert", "mpnet", "roberta-prelayernorm"}


@dataclass(frozen=True, slots=True)
class ModelDirectory:
    """A directory with a model's configuration and tokenizer: a bundle, or a checkpoint."""

    path: Path
    task: str  # a TaskName, which is checked where the tasks are known
    config: dict[str, Any]  # config.json, whatever its authors wrote
    overrides: Overrides = field(default_factory=Overrides, kw_only=True)


def read_directory(path: Path, task: str) -> ModelDirectory:
    """Read the configuration of a directory, for this task. Raises: BundleError."""
    return ModelDirectory(path, task, read_json(path / CONFIG), overrides=read_overrides(path))


def max_positions(config: dict[str, Any]) -> int:  # config.json, whatever its authors wrote
    """Returns: the longest input in tokens that the model's position embeddings allow. Raises: BundleError."""
    positions = config.get("max_position_embeddings", DEFAULT_POSITIONS)
    padding = config.get("pad_token_id") or 0
    if not isinstance(positions, int) or not isinstance(padding, int):
        raise BundleError(f"{CONFIG}: max_position_embeddings and pad_token_id must be whole numbers; correct them")
    unused = padding + 1 if config.get("model_type") in OFFSET_POSITIONS else 0
    if positions <= unused:
        raise BundleError(f"{CONFIG} has max_position_embeddings {positions!r}, too few for any input; correct it")
    return positions - unused
