"""Describes a directory that holds a model: its configuration, and an operator's word on it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.tasks.directory.files import CONFIG, TOKENIZER_CONFIG, BundleError, read_json, read_optional_json
from models.tasks.directory.overrides import Overrides, read_overrides

# transformers' own defaults, where config.json leaves the key out.
DEFAULT_POSITIONS = 512
DEFAULTS_BY_KIND = {"modernbert": 8192}
# These count positions from the padding token's id + 1, so that many of max_position_embeddings are never used.
OFFSET_POSITIONS = {
    "camembert",
    "data2vec-text",
    "ibert",
    "longformer",
    "luke",
    "mpnet",
    "roberta",
    "roberta-prelayernorm",
    "xlm-roberta",
    "xlm-roberta-xl",
    "xmod",
}
# These have relative positions alone: max_position_embeddings says what they were trained on, and no table ends there.
RELATIVE_POSITIONS = {"funnel", "mt5", "t5", "umt5", "xlnet"}
RELATIVE_IF_UNBIASED = {"deberta", "deberta-v2"}  # unless position_biased_input adds a table
DEFAULT_LABELS = 2  # of a model whose config.json does not say
NO_LIMIT = 10**20  # transformers writes 10**30 for a tokenizer without a limit


@dataclass(frozen=True, slots=True)
class ModelDirectory:
    """A directory with a model's configuration and tokenizer: a bundle, or a checkpoint.

    `weights` reads those of one of its folders, where PyTorch is there to do it: of a checkpoint.
    """

    path: Path
    task: str  # a TaskName, which is checked where the tasks are known
    config: dict[str, Any]  # config.json, whatever its authors wrote
    overrides: Overrides = field(default_factory=Overrides, kw_only=True)
    weights: Callable[[Path], Mapping[str, NDArray[np.floating]]] | None = field(default=None, kw_only=True)


def read_directory(path: Path, task: str) -> ModelDirectory:
    """Read the configuration of a directory, for this task. Raises: BundleError."""
    return ModelDirectory(path, task, read_json(path / CONFIG), overrides=read_overrides(path))


def max_tokens(directory: ModelDirectory, limit: int | None = None) -> int:
    """Find how many tokens the model reads at once. `limit`: by other settings, over that of its tokenizer's.

    Raises: BundleError.
    """
    positions, limit = max_positions(directory.config), limit or _tokenizer_limit(directory.path)
    if limit is None:
        return positions
    return limit if _has_relative_positions(directory.config) else min(limit, positions)


def max_positions(config: dict[str, Any]) -> int:  # config.json, whatever its authors wrote
    """Returns: the longest input in tokens that the model's position embeddings allow. Raises: BundleError."""
    kind = model_type(config)
    default = DEFAULTS_BY_KIND.get(str(kind), DEFAULT_POSITIONS)
    positions = config.get("max_position_embeddings", config.get("n_positions", default))
    if not isinstance(positions, int):
        raise BundleError(f"{CONFIG}: max_position_embeddings must be a whole number; correct it")
    padding = padding_before_positions(config)
    unused = 0 if padding is None else padding + 1
    if positions <= unused:
        raise BundleError(f"{CONFIG} has max_position_embeddings {positions!r}, too few for any input; correct it")
    return positions - unused


def padding_before_positions(config: Mapping[str, Any]) -> int | None:  # as above
    """Returns: the id of the padding, from behind which a model counts positions; None for one that counts from 0.

    Raises: BundleError.
    """
    if model_type(config) not in OFFSET_POSITIONS:
        return None
    padding = config.get("pad_token_id", 1)  # the default of all these kinds
    if not isinstance(padding, int):
        raise BundleError(f"{CONFIG}: pad_token_id must be a whole number; correct it")
    return padding


def model_type(config: Mapping[str, Any]) -> str | None:  # as above
    """Read the kind of the model, where it is given. Raises: BundleError."""
    kind = config.get("model_type")
    if not isinstance(kind, str | None):
        raise BundleError(f"{CONFIG}: model_type must be a name, such as bert; correct it")
    return kind


def _has_relative_positions(config: dict[str, Any]) -> bool:  # as above
    kind = model_type(config)
    return kind in RELATIVE_POSITIONS or (
        kind in RELATIVE_IF_UNBIASED and config.get("position_biased_input", True) is False
    )


def _tokenizer_limit(path: Path) -> int | None:
    """Read the tokens that the tokenizer's settings allow. Returns: None if they set no limit. Raises: BundleError."""
    settings = read_optional_json(path / TOKENIZER_CONFIG)
    key = "model_max_length" if "model_max_length" in settings else "max_len"  # the second in files of before 2020
    limit = settings.get(key)
    if limit is None:
        return None
    if isinstance(limit, bool) or not isinstance(limit, int | float) or not limit >= 1 or limit != limit // 1:
        raise BundleError(f"{path / TOKENIZER_CONFIG}: {key} must be a number of tokens; correct it or remove it")
    return None if limit > NO_LIMIT else int(limit)


def label_names(directory: ModelDirectory) -> list[str]:
    """Read the labels in the order of their numbers. transformers leaves its own names for two labels out, and makes
    them up where only their count is known. Raises: BundleError.
    """
    file, config = directory.path / CONFIG, directory.config
    id2label = config.get("id2label")
    if id2label is None:
        count = config.get("num_labels")
        if count is None:
            count = DEFAULT_LABELS
        if not isinstance(count, int) or isinstance(count, bool) or count < 1:
            raise BundleError(f"{file}: num_labels must be a whole number from 1 on; correct it")
        labels = [f"LABEL_{number}" for number in range(count)]
        if config.get("label2id") not in (None, {label: number for number, label in enumerate(labels)}):
            raise BundleError(f"{file} names its labels in label2id alone, which transformers ignores; add id2label")
        return labels
    names = id2label if isinstance(id2label, dict) else {}
    numbers = [str(number) for number in range(len(names))]
    if not names or set(names) != set(numbers) or not all(isinstance(name, str) for name in names.values()):
        raise BundleError(f"{file}: id2label must name the labels 0, 1, ...; add their names")
    return [names[number] for number in numbers]


def architectures(config: dict[str, Any]) -> list[str]:  # as above
    """List the names of the model's classes in transformers."""
    names = config.get("architectures")
    return [str(name) for name in names] if isinstance(names, list) else []
