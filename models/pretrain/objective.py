"""Computes the paper's triple loss (soft targets, masked tokens, cosine), and relations as a fourth."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor

from models.losses import direction_loss, relation_loss, soft_target_loss, token_loss
from models.predict import LastValues
from models.pretrain.masked_lm import MaskedLM
from models.pretrain.masking import MaskedBatch

ACCURACY = "accuracy"  # goes with the losses, averaged as they are, and counts in no sum
Forward = Any  # a MaskedLM, or what accelerate has wrapped around one; called as MaskedLM.forward


@dataclass(frozen=True, slots=True)
class TripleWeights:
    """Sets the weight of each loss; 0 switches it off.

    Raises: ValueError if all are 0, or one is negative.
    """

    soft: float = 0.0
    mlm: float = 0.0
    cosine: float = 0.0
    relation: float = 0.0

    def __post_init__(self) -> None:
        if min(asdict(self).values()) < 0:
            raise ValueError("a loss weight must not be negative")
        if not any(asdict(self).values()):
            raise ValueError("every loss is switched off, so there is nothing to learn; give one a weight above 0")


class TripleLoss:
    """Computes the losses of masked batches for a student and its frozen teacher, which stays out of any wrapper."""

    def __init__(
        self, student: MaskedLM, teacher: MaskedLM | None, weights: TripleWeights, *, temperature: float = 2.0
    ) -> None:
        self.teacher, self.weights, self.temperature = teacher, weights, temperature
        if weights.relation and teacher is not None:
            self.values = LastValues(student.model), LastValues(teacher.model)

    def __call__(self, student: Forward, batch: MaskedBatch) -> dict[str, Tensor]:
        """Return each loss that counts, as a mean over the real tokens; `mlm` and the accuracy over the masked ones."""
        weights = self.weights
        positions = batch.token_positions if weights.soft else batch.masked_positions
        hidden, logits = student(batch.input_ids, batch.attention_mask, positions)
        # Of the positions with logits, the masked ones.
        masked_logits = logits[batch.masked_positions[positions]]
        labels = batch.labels[batch.masked_positions]
        losses = {ACCURACY: (masked_logits.detach().argmax(dim=-1) == labels).float().mean()}
        if weights.mlm:
            losses["mlm"] = token_loss(masked_logits, labels)
        if not (weights.soft or weights.cosine or weights.relation):
            return losses
        assert self.teacher is not None, "these losses ask a teacher"
        teacher_positions = positions if weights.soft else torch.zeros_like(positions)
        with torch.no_grad():
            teacher_hidden, teacher_logits = self.teacher(batch.input_ids, batch.attention_mask, teacher_positions)
        if weights.soft:
            losses["soft"] = soft_target_loss(logits, teacher_logits, temperature=self.temperature)
        if weights.cosine:
            losses["cosine"] = direction_loss(hidden, teacher_hidden, batch.token_positions)
        if weights.relation:
            student_values, teacher_values = (last.values for last in self.values)
            heads = self.teacher.model.config.num_attention_heads
            losses["relation"] = relation_loss(student_values, teacher_values, batch.token_positions, heads=heads)
        return losses

    def total(self, losses: dict[str, Tensor], share: "Share") -> Tensor:
        """Return the weighted sum, each mean scaled by the batch's share of what its whole window averages over."""
        weighted_losses = [
            getattr(self.weights, name) * share.of(name) * loss for name, loss in losses.items() if name != ACCURACY
        ]
        return torch.stack(weighted_losses).sum()


@dataclass(frozen=True, slots=True)
class Share:
    """Holds a batch's part of the tokens, and of the masked tokens, of its accumulation window over all processes."""

    tokens: float
    masked_tokens: float

    def of(self, name: str) -> float:
        return self.masked_tokens if name in ("mlm", ACCURACY) else self.tokens


def shares_of(batches: Sequence[MaskedBatch], tokens: float, masked_tokens: float) -> list[Share]:
    """Return each batch's share of a window, which has `tokens` and `masked_tokens` over all processes."""
    return [
        Share(float(batch.attention_mask.sum()) / tokens, float(batch.masked_positions.sum()) / masked_tokens)
        for batch in batches
    ]
