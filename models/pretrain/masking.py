"""Masks tokens dynamically: what a student has to guess is drawn anew for each batch."""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from transformers import PreTrainedTokenizerFast

from models.pretrain.corpus import Batches

SHARE = 0.15  # of the tokens that may be masked
REPLACED, RANDOM = 0.8, 0.1  # of the masked positions: [MASK], another token; the rest stay as they are
SMOOTHING = 0.7


@dataclass(frozen=True, slots=True)
class MaskedBatch:
    """Holds a batch: `input_ids` with masks, `labels` without, `masked_positions` where a student has to guess.

    Shapes: (batch, seq_len).
    """

    input_ids: Tensor
    attention_mask: Tensor
    labels: Tensor
    masked_positions: Tensor

    @property
    def token_positions(self) -> Tensor:
        """Return where there is a token and no padding. Shape: (batch, seq_len) bool."""
        return self.attention_mask.bool()


class MaskedBatches:
    """Masks the batches of a corpus on a device, by draws that depend only on the seed and the batch's number.

    So a run that continues, or one of more processes, draws the very same.
    """

    def __init__(self, batches: Batches, odds: Tensor, *, mask_token_id: int, pad_token_id: int) -> None:
        self.batches, self.odds = batches, odds
        self.mask_token_id, self.pad_token_id = mask_token_id, pad_token_id

    def __getitem__(self, number: int) -> MaskedBatch:
        corpus, device = self.batches.corpus, self.odds.device
        ids, mask = corpus.read(self.batches.indices(number), pad_token_id=self.pad_token_id)
        labels, attention_mask = torch.from_numpy(ids).to(device), torch.from_numpy(mask).to(device)
        seed = np.random.SeedSequence([self.batches.seed, number]).generate_state(1, np.uint64)
        generator = torch.Generator(device).manual_seed(int(seed[0] >> np.uint64(1)))
        # Padding shares its id with no token of a text, and its odds are 0.
        input_ids, masked_positions = mask_tokens(
            labels, self.odds, mask_token_id=self.mask_token_id, generator=generator
        )
        return MaskedBatch(input_ids, attention_mask, labels, masked_positions)


def masking_odds(counts: NDArray[np.int64], tokenizer: PreTrainedTokenizerFast) -> NDArray[np.float32]:
    """Return count^-0.7, so that rarer tokens are chosen more often; 0 for special tokens. Shape: (vocab_size,).

    The unknown token counts as any other: a window may hold nothing else.

    Source: Lample and Conneau 2019, arXiv:1901.07291, section 3.2, with DistilBERT's own exponent.
    """
    odds = np.maximum(counts, 1).astype(np.float32) ** -SMOOTHING
    odds[[token for token in tokenizer.all_special_ids if token != tokenizer.unk_token_id]] = 0
    return odds


def mask_tokens(
    labels: Tensor, odds: Tensor, *, mask_token_id: int, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Choose 15% of the tokens by their odds; of these, 80% become [MASK], 10% any other token, 10% stay.

    Shapes: labels (batch, seq_len) int64, odds (vocab_size,); returns masked ids and masked positions, as labels.
    Source: Devlin et al. 2019, arXiv:1810.04805, section 3.1.
    """
    token_odds = odds[labels].flatten()
    number = max(1, round(SHARE * int(torch.count_nonzero(token_odds))))
    positions = torch.multinomial(token_odds, number, replacement=False, generator=generator)
    fate = torch.rand(number, device=labels.device, generator=generator)
    substitutes = torch.randint(len(odds), (number,), device=labels.device, generator=generator)
    flat_labels = labels.flatten()
    tokens = torch.where(
        fate < REPLACED, mask_token_id, torch.where(fate < REPLACED + RANDOM, substitutes, flat_labels[positions])
    )
    masked_positions = torch.zeros_like(flat_labels, dtype=torch.bool).index_fill(0, positions, True)
    return flat_labels.index_copy(0, positions, tokens).view_as(labels), masked_positions.view_as(labels)
