"""Computes what a step minimises: hard labels, and what frozen teachers say of the same batch."""

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel

from models.data import Batch
from models.finetune.recipe import Recipe
from models.losses import hidden_state_loss, relation_loss, soft_target_loss
from models.predict import LastValues, forward


@dataclass(frozen=True, slots=True)
class Weights:
    """Sets the weight of each loss; 0 switches it off. Plain fine-tuning has only hard labels."""

    hard: float = 1.0
    soft: float = 0.0
    hidden: float = 0.0
    relation: float = 0.0


class Objective:
    """Computes the losses of a batch for a model and, when it is distilled, its frozen teachers.

    Soft targets are those of all teachers, hidden states and relations those of the first.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        teachers: Sequence[PreTrainedModel],
        recipe: Recipe[Any],
        weights: Weights,
        *,
        temperature: float = 2.0,
        bf16: bool = False,
    ) -> None:
        self.model, self.teachers, self.recipe = model, teachers, recipe
        self.weights, self.temperature, self.bf16 = weights, temperature, bf16
        if weights.relation:
            self.model_values, self.teacher_values = LastValues(model), LastValues(teachers[0])

    def __call__(self, batch: Batch) -> dict[str, Tensor]:
        """Return each loss as a mean: over windows for `hard` and `soft`, over real tokens for the other two."""
        with self._autocast():
            output = forward(self.model, batch, hidden_states=bool(self.weights.hidden))
        losses = {"hard": self.recipe.hard_loss(output, batch)}
        if not self.teachers and batch.taught is None:
            return losses
        teacher_outputs = [] if batch.taught is not None else self._ask(batch)
        if batch.taught is None:
            teacher_logits = [self.recipe.logits(teacher_output, batch) for teacher_output in teacher_outputs]
        else:
            teacher_logits = list(batch.taught.float().unbind(dim=1))
        logits = self.recipe.logits(output, batch)
        # The mean of the divergences has the gradient of the divergence from the teachers' mean probabilities.
        soft = [soft_target_loss(logits, of_teacher, temperature=self.temperature) for of_teacher in teacher_logits]
        losses["soft"] = torch.stack(soft).mean()
        mask = batch.attention_mask.bool()
        if self.weights.hidden:
            losses["hidden"] = layerwise_loss(output.hidden_states, teacher_outputs[0].hidden_states, mask)
        if self.weights.relation:
            heads = self.teachers[0].config.num_attention_heads
            losses["relation"] = relation_loss(self.model_values.values, self.teacher_values.values, mask, heads=heads)
        return losses

    @torch.no_grad()
    def _ask(self, batch: Batch) -> list[Any]:  # Any: transformers' own outputs
        with self._autocast():
            return [forward(teacher, batch, hidden_states=bool(self.weights.hidden)) for teacher in self.teachers]

    def total(self, losses: dict[str, Tensor], shares: dict[str, float]) -> Tensor:
        """Return the weighted sum, each mean scaled by the batch's share of its accumulation window."""
        return torch.stack([getattr(self.weights, name) * shares[name] * loss for name, loss in losses.items()]).sum()

    def _autocast(self) -> AbstractContextManager[None]:
        return torch.autocast(self.model.device.type, torch.bfloat16, enabled=self.bf16)


def layerwise_loss(student: Sequence[Tensor], teacher: Sequence[Tensor], mask: Tensor) -> Tensor:
    """Average the hidden-state loss over the student's layers, each against the teacher's at the same relative depth.

    Shapes: embeddings and the output of every layer, each (batch, seq_len, hidden_size); mask (batch, seq_len) bool.
    """
    depth, teacher_depth = len(student) - 1, len(teacher) - 1
    pairs = [(layer, layer * teacher_depth // depth) for layer in range(1, depth + 1)]
    return torch.stack(
        [hidden_state_loss(student[layer], teacher[teacher_layer], mask) for layer, teacher_layer in pairs]
    ).mean()


def shares_of(batches: Sequence[Batch]) -> Iterator[dict[str, float]]:
    """Yield each batch's part of its accumulation window, so that a window's loss is one mean, no mean of means."""
    if len(batches) == 1:  # to count tokens is to wait for the GPU
        yield dict.fromkeys(("hard", "soft", "hidden", "relation"), 1.0)
        return
    windows = [len(batch) for batch in batches]
    tokens = [int(batch.attention_mask.sum()) for batch in batches]
    for batch_windows, batch_tokens in zip(windows, tokens, strict=True):
        by_window, by_token = batch_windows / sum(windows), batch_tokens / sum(tokens)
        yield {"hard": by_window, "soft": by_window, "hidden": by_token, "relation": by_token}
