"""Teachers by name; those of one student are alike in what they read and in what they say of it."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from transformers import AutoConfig, AutoTokenizer, PretrainedConfig

from models.data import DataError
from models.tasks.directory import max_positions


def check_name(name: str) -> None:
    """Raises: DataError if it is neither a directory nor has the form of a name on the Hub."""
    if not Path(name).is_dir() and len(Path(name).parts) > 2:
        raise DataError(f"{name} is neither a directory nor a name on the Hugging Face Hub")


def check_alike(names: Sequence[str], tokenizer: Any, config: PretrainedConfig) -> None:
    """Compare every teacher with the first, of which `tokenizer` and `config` are. Raises: DataError."""
    # tokenizer: one of transformers' fast ones, which have no common type
    for name in names[1:]:
        other = AutoConfig.from_pretrained(name)
        same = {
            "labels": (other.id2label, other.problem_type) == (config.id2label, config.problem_type),
            "tokenizer": _reads(AutoTokenizer.from_pretrained(name, use_fast=True)) == _reads(tokenizer),
            "longest input": max_positions(other.to_dict()) == max_positions(config.to_dict()),
        }
        differing = [what for what, is_same in same.items() if not is_same]
        if differing:
            raise DataError(f"{name} and {names[0]} cannot teach one student: their {differing[0]} differs")


def _reads(tokenizer: Any) -> Any:  # Any: as above, and JSON
    """All that makes tokens of a text; where it is cut and padded is the task's to say."""
    state = json.loads(tokenizer.backend_tokenizer.to_str())
    return {key: value for key, value in state.items() if key not in ("truncation", "padding")}
