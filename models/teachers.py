"""Loads the models that training begins with; teachers of one student read alike and say alike."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from transformers import AutoConfig, AutoTokenizer, PretrainedConfig

from models.tasks.directory.model import max_positions
from models.tasks.errors import InputError, first_line
from models.vocabulary import VocabularyError, id_map


class ModelError(InputError):
    """A model that training begins with cannot be loaded, or does not suit the run."""


def check_name(name: str) -> None:
    """Check that a model is a directory or has the form of a name on the Hub. Raises: ModelError."""
    if not Path(name).is_dir() and len(Path(name).parts) > 2:
        raise ModelError(f"{name} is neither a directory nor a name on the Hugging Face Hub")


@contextmanager
def loading(name: str) -> Iterator[None]:
    """Turn whatever the libraries raise of a model's files into a ModelError; only for calls of `from_pretrained`."""
    try:
        yield
    except Exception as error:  # torch, safetensors, tokenizers and transformers each raise their own
        raise ModelError(f"{name} cannot be loaded: {first_line(error)}") from error


def load_config(name: str) -> PretrainedConfig:
    """Read the configuration of a model. Raises: ModelError."""
    check_name(name)
    with loading(name):
        config: PretrainedConfig = AutoConfig.from_pretrained(name)
    return config


def load_tokenizer(name: str) -> Any:  # one of transformers' fast ones, which have no common type
    """Read the tokenizer of a model. Raises: ModelError."""
    check_name(name)
    with loading(name):
        return AutoTokenizer.from_pretrained(name, use_fast=True)


def check_alike(
    names: Sequence[str], tokenizer: Any, config: PretrainedConfig, origin: str | None = None, *, pairs: bool = True
) -> list[list[int] | None]:
    """Compare every teacher with the first, whose `config` is given, and with the student's `tokenizer`.

    `origin`: whose tokenizer it is, if not the first teacher's. `pairs`: of texts are read as well.

    Returns: the map from the student's ids to each teacher's, or None where they are the same.
    Raises: ModelError.
    """
    # tokenizer: one of transformers' fast ones, which have no common type
    maps: list[list[int] | None] = []
    student = origin or names[0]
    for name in names:
        if name == student:
            maps.append(None)
            continue
        teacher_config = load_config(name)
        matches = {
            "labels": (teacher_config.id2label, teacher_config.problem_type) == (config.id2label, config.problem_type),
            "longest input": max_positions(teacher_config.to_dict()) == max_positions(config.to_dict()),
        }
        differences = [aspect for aspect, is_same in matches.items() if not is_same]
        if differences:
            raise ModelError(f"{name} and {names[0]} cannot teach one student: their {differences[0]} differs")
        try:
            maps.append(id_map(tokenizer, load_tokenizer(name), pairs=pairs))
        except VocabularyError as error:
            raise ModelError(
                f"{name} and {student} cannot teach one student: their tokenizer differs ({error})"
            ) from error
    return maps
