"""Loads a masked language model: the encoder, and its head over chosen positions alone."""

from typing import Any

import torch
from torch import Tensor, nn
from transformers import (
    AutoConfig,
    AutoModelForMaskedLM,
    DistilBertForMaskedLM,
    PretrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerFast,
)
from transformers.utils import logging

from models.data import DataError
from models.student import StudentError, check_supported, set_dropout
from models.teachers import check_name


class MaskedLM(nn.Module):
    """A head over 30,000 tokens costs as much as several layers, so it meets only the positions that a loss reads."""

    def __init__(self, model: PreTrainedModel, *, bf16: bool = False) -> None:
        super().__init__()
        self.model, self.bf16 = model, bf16

    def forward(self, input_ids: Tensor, attention_mask: Tensor, read: Tensor) -> tuple[Tensor, Tensor]:
        """Shapes: ids, mask and read (batch, seq_len), read of bool; returns the last hidden states (batch, seq_len,
        hidden_size) and logits (positions read, vocab_size).
        """
        # Not accelerate's own mixed precision, which makes a float32 copy of all logits.
        with torch.autocast(input_ids.device.type, torch.bfloat16, enabled=self.bf16):
            hidden = self.model.base_model(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state
            return hidden, self._head(hidden[read])

    def _head(self, hidden: Tensor) -> Tensor:
        model: Any = self.model  # its head is an attribute of another name for each kind
        if isinstance(model, DistilBertForMaskedLM):
            logits: Tensor = model.vocab_projector(
                model.vocab_layer_norm(model.activation(model.vocab_transform(hidden)))
            )
        else:
            logits = model.cls(hidden) if hasattr(model, "cls") else model.lm_head(hidden)  # BERT, RoBERTa
        return logits

    def head_parameters(self) -> list[nn.Parameter]:
        """Those of the head alone; its decoder is the encoder's word embeddings."""
        encoder = {id(parameter) for parameter in self.model.base_model.parameters()}
        return [parameter for parameter in self.model.parameters() if id(parameter) not in encoder]


def load_teacher(name: str) -> tuple[PreTrainedModel, bool]:
    """Any BERT-family checkpoint as a masked language model, frozen, and whether it came with the head for it.

    Raises: DataError, StudentError, OSError.
    """
    check_name(name)
    config: PretrainedConfig = AutoConfig.from_pretrained(name)
    check_supported(config)
    set_dropout(config, 0.0)
    verbosity = logging.get_verbosity()
    logging.set_verbosity_error()  # a head that is not there is said in our own words
    try:
        model, found = AutoModelForMaskedLM.from_pretrained(name, config=config, output_loading_info=True)
    finally:
        logging.set_verbosity(verbosity)
    if lacking := [key for key in found["missing_keys"] if key.startswith(f"{model.base_model_prefix}.")]:
        raise StudentError(f"{name} lacks weights of its encoder: {', '.join(sorted(lacking)[:3])}")
    model.requires_grad_(False)
    return model.eval(), not found["missing_keys"]


def check_tokenizer(tokenizer: PreTrainedTokenizerFast, config: PretrainedConfig, name: str) -> None:
    """Raises: DataError if it is not of this model, or cannot mask."""
    if len(tokenizer) > config.vocab_size:
        raise DataError(
            f"{name}: its tokenizer has {len(tokenizer)} tokens and its model {config.vocab_size}; they do not fit"
        )
    if tokenizer.mask_token_id is None:
        raise DataError(f"{name}: its tokenizer has no mask token, without which nothing can be guessed")
