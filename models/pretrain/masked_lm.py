"""Loads a masked language model: the encoder, and its head over only the positions that are read."""

from typing import Any

import torch
from torch import Tensor, nn
from transformers import (
    AutoModelForMaskedLM,
    DistilBertForMaskedLM,
    PretrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerFast,
)
from transformers.utils import logging

from models.student import StudentError, check_supported, set_dropout
from models.teachers import ModelError, check_tokenizer, load_config, loading


class MaskedLM(nn.Module):
    """Applies the head only at the positions that a loss reads: it costs as much as several layers."""

    def __init__(self, model: PreTrainedModel, *, bf16: bool = False) -> None:
        super().__init__()
        self.model, self.bf16 = model, bf16

    def forward(self, input_ids: Tensor, attention_mask: Tensor, positions: Tensor) -> tuple[Tensor, Tensor]:
        """Return the last hidden states, and the logits where `positions` is true.

        Shapes: ids, mask and positions (batch, seq_len), positions of bool; hidden states (batch, seq_len,
        hidden_size), logits (true positions, vocab_size).
        """
        # Not accelerate's own mixed precision, which makes a float32 copy of all logits.
        with torch.autocast(input_ids.device.type, torch.bfloat16, enabled=self.bf16):
            hidden = self.model.base_model(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state
            return hidden, self._head(hidden[positions])

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
        """Return only the parameters of the head; its decoder is the encoder's word embeddings."""
        encoder = {id(parameter) for parameter in self.model.base_model.parameters()}
        return [parameter for parameter in self.model.parameters() if id(parameter) not in encoder]


def load_teacher(name: str) -> tuple[PreTrainedModel, bool]:
    """Load any BERT-family checkpoint as a masked language model, frozen; also whether it came with the head for it.

    Raises: ModelError, StudentError.
    """
    config = load_config(name)
    check_supported(config)
    set_dropout(config, 0.0)
    verbosity = logging.get_verbosity()
    logging.set_verbosity_error()  # we report a missing head in our own words
    try:
        with loading(name):
            model, info = AutoModelForMaskedLM.from_pretrained(name, config=config, output_loading_info=True)
    finally:
        logging.set_verbosity(verbosity)
    if missing_keys := [key for key in info["missing_keys"] if key.startswith(f"{model.base_model_prefix}.")]:
        raise StudentError(f"{name} lacks weights of its encoder: {', '.join(sorted(missing_keys)[:3])}")
    model.requires_grad_(False)
    return model.eval(), not info["missing_keys"]


def check_masks(tokenizer: PreTrainedTokenizerFast, config: PretrainedConfig, name: str) -> None:
    """Raises: ModelError if the tokenizer does not belong to this model, or cannot mask."""
    check_tokenizer(tokenizer, config, name)
    if tokenizer.mask_token_id is None:
        raise ModelError(f"{name}: its tokenizer has no mask token, without which nothing can be guessed")
