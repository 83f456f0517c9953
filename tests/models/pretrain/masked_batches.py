"""A tiny teacher and student and masked batches of random tokens, for the tests of the losses and of the loop."""

import torch
from transformers import BertConfig, BertForMaskedLM, DistilBertForMaskedLM

from models.pretrain.masked_lm import MaskedLM
from models.pretrain.masking import MaskedBatch
from models.student import make_student

SIZES = {"vocab_size": 50, "hidden_size": 16, "num_attention_heads": 2, "intermediate_size": 32}
LENGTHS = ((6, 4), (3,), (9, 9, 2), (5,), (8, 1, 7, 7), (4,), (2, 2), (12,))  # of the batches of an uneven window


def pair() -> tuple[MaskedLM, MaskedLM]:
    """A student of two layers and its teacher of four."""
    torch.manual_seed(0)
    config = BertConfig(**SIZES, num_hidden_layers=4, initializer_range=0.2)
    teacher = BertForMaskedLM(config).eval().requires_grad_(False)
    return MaskedLM(make_student(teacher, DistilBertForMaskedLM, (0, 2))), MaskedLM(teacher)


def random_batch(seed: int, lengths: tuple[int, ...] = (6, 4)) -> MaskedBatch:
    """Every other token is masked; token 4 is the mask."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(5, 50, (len(lengths), max(lengths)), generator=generator)
    mask = torch.arange(max(lengths)) < torch.tensor(lengths)[:, None]
    masked_positions = mask & (torch.arange(max(lengths)) % 2 == 0)
    return MaskedBatch(
        labels.masked_fill(masked_positions, 4).masked_fill(~mask, 0), mask.long(), labels, masked_positions
    )
