"""Saves tokenizers so that other libraries feed a model what it reads, and no more."""

from pathlib import Path
from typing import Any

from transformers import PreTrainedModel

from models.predict import input_names
from models.tasks.directory.model import max_positions


def save_tokenizer(tokenizer: Any, model: PreTrainedModel, directory: Path) -> None:
    """Save the tokenizer of a model beside it. `tokenizer`: one of transformers' fast ones, which have no common type.

    What it was before may not suit: it is the teacher's, whose token types the student lacks, and whose limit is not
    the student's.
    """
    _name_inputs(tokenizer, input_names(model))
    tokenizer.model_max_length = max_positions(model.config.to_dict())
    tokenizer.save_pretrained(directory)


def leave_out_inputs(tokenizer: Any, model: PreTrainedModel) -> None:
    """Let a tokenizer give nothing that the model does not read; what it leaves out already stays so. As above."""
    read = input_names(model)
    _name_inputs(tokenizer, [name for name in tokenizer.model_input_names if name in read])


def _name_inputs(tokenizer: Any, names: list[str]) -> None:
    tokenizer.model_input_names = tokenizer.init_kwargs["model_input_names"] = names
