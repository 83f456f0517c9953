"""The losses of a distillation: pure functions, each a mean, so that the caller chooses the weights."""

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

FEW, MANY = 1 << 20, 1 << 26  # logits of soft targets at a time: what a CPU's caches hold, what keeps a GPU busy
UNLABELLED = -100  # a label that no loss counts; the value is PyTorch's own ignore_index


def span_loss(start_logits: Tensor, end_logits: Tensor, starts: Tensor, ends: Tensor) -> Tensor:
    """Cross-entropy of the start and of the end position, averaged over both and over the batch.

    Shapes: logits (batch, seq_len), padding at or below -1e4; starts, ends (batch,) int64.
    Returns: scalar, nats.
    Source: Devlin et al. 2019, arXiv:1810.04805, section 4.2.
    """
    start = functional.cross_entropy(start_logits.float(), starts)
    end = functional.cross_entropy(end_logits.float(), ends)
    return (start + end) / 2


def label_loss(logits: Tensor, labels: Tensor) -> Tensor:
    """Cross-entropy of one label for each row; a row labelled UNLABELLED counts as zero in the mean.

    Shapes: logits (batch, classes); labels (batch,) int64.
    Returns: scalar, nats.
    """
    total = functional.cross_entropy(logits.float(), labels, ignore_index=UNLABELLED, reduction="sum")
    return total / len(labels)


def multi_label_loss(logits: Tensor, labels: Tensor) -> Tensor:
    """Binary cross-entropy averaged over the labels; a row labelled UNLABELLED counts as zero in the mean.

    Shapes: logits and labels (batch, classes), labels 0, 1 or UNLABELLED throughout a row.
    Returns: scalar, nats.
    """
    labels = labels.to(logits.device, torch.float32)
    label_losses = functional.binary_cross_entropy_with_logits(logits.float(), labels.clamp(min=0), reduction="none")
    return label_losses.masked_fill(labels == UNLABELLED, 0).mean()


def embedding_loss(student: Tensor, teacher: Tensor) -> Tensor:
    """1 - cosine, averaged over the batch: half the squared distance of the vectors at unit length.

    Shapes: (batch, hidden_size).
    """
    return 1 - functional.cosine_similarity(student.float(), teacher.float(), dim=-1).mean()


def score_loss(first: Tensor, second: Tensor, scores: Tensor) -> Tensor:
    """Mean squared error of the cosines of pairs.

    Shapes: first, second (pairs, hidden_size); scores (pairs,), 0 for unlike and 1 for alike.
    Source: Reimers and Gurevych 2019, arXiv:1908.10084, section 3.
    """
    cosines = functional.cosine_similarity(first.float(), second.float(), dim=-1)
    return functional.mse_loss(cosines, scores.float())


def masked_mean(hidden_states: Tensor, mask: Tensor) -> Tensor:
    """The mean over the positions that the mask keeps.

    Shapes: hidden_states (batch, seq_len, hidden_size), mask (batch, seq_len) to (batch, hidden_size).
    Source: Reimers and Gurevych 2019, arXiv:1908.10084, section 3.
    """
    weights = mask[:, :, None].to(hidden_states.dtype)
    return (hidden_states * weights).sum(dim=1) / weights.sum(dim=1)


def token_loss(logits: Tensor, ids: Tensor) -> Tensor:
    """Cross-entropy of the token that stood at each masked position.

    Shapes: logits (positions, vocab_size); ids (positions,) int64.
    Returns: scalar, nats.
    Raises: ValueError if there is no position.
    Source: Devlin et al. 2019, arXiv:1810.04805, section 3.1.
    """
    if not len(ids):
        raise ValueError("no position is masked")
    return functional.cross_entropy(logits.float(), ids)


def direction_loss(student: Tensor, teacher: Tensor, mask: Tensor) -> Tensor:
    """1 - cosine of the last hidden states, averaged over the positions that the mask keeps.

    Shapes: hidden states (batch, seq_len, hidden_size), of one width; mask (batch, seq_len) bool.
    Raises: ValueError if the mask keeps nothing.
    Source: Sanh et al. 2019, arXiv:1910.01108, section 3.
    """
    _refuse_empty(mask)
    return embedding_loss(student[mask], teacher[mask])


def soft_target_loss(
    student_logits: Tensor, teacher_logits: Tensor, mask: Tensor | None = None, *, temperature: float
) -> Tensor:
    """T² · KL(teacher ‖ student), averaged over the positions that the mask keeps, or over all.

    Shapes: logits (batch, seq_len, classes); mask (batch, seq_len) bool. Without a mask, logits (positions, classes).
    Returns: scalar, nats.
    Raises: ValueError if temperature <= 0 or the mask keeps nothing.
    Source: Hinton et al. 2015, arXiv:1503.02531, section 2.
    """
    if temperature <= 0:
        raise ValueError(f"temperature must be above 0, not {temperature}")
    if mask is not None:
        student_logits, teacher_logits = student_logits[mask], teacher_logits[mask]
    student_logits, teacher_logits = student_logits.flatten(end_dim=-2), teacher_logits.flatten(end_dim=-2)
    if not len(student_logits):
        raise ValueError("the mask keeps no position")
    # torch gives `apply` no types.
    loss: Tensor = _SoftTargets.apply(student_logits, teacher_logits, temperature)  # type: ignore[no-untyped-call]
    return loss


class _SoftTargets(torch.autograd.Function):
    """Loss and gradient a few rows at a time: over a vocabulary the float32 copies that autograd keeps of all rows
    at once take gigabytes, and filling them more time than the products of the model.
    """

    @staticmethod
    def forward(ctx: Any, student: Tensor, teacher: Tensor, temperature: float) -> Tensor:  # Any: torch's context
        positions, dtype = len(student), torch.promote_types(student.dtype, torch.float32)
        gradient, total = torch.empty_like(student), student.new_zeros((), dtype=dtype)
        chunk_size = max(1, (FEW if student.device.type == "cpu" else MANY) // student.shape[-1])
        for start in range(0, positions, chunk_size):
            rows = slice(start, start + chunk_size)
            student_log = functional.log_softmax(student[rows].to(dtype) / temperature, dim=-1)
            teacher_log = functional.log_softmax(teacher[rows].to(dtype) / temperature, dim=-1)
            teacher_probs = teacher_log.exp()
            total += torch.sum(teacher_probs * (teacher_log - student_log))
            gradient[rows] = student_log.exp_().sub_(teacher_probs).mul_(temperature / positions)
        ctx.save_for_backward(gradient)
        return total * (temperature**2 / positions)

    @staticmethod
    def backward(ctx: Any, *upstream: Tensor) -> tuple[Tensor, None, None]:  # Any: torch's context
        (gradient,) = ctx.saved_tensors
        return gradient * upstream[0].to(gradient.dtype), None, None


def hidden_state_loss(student: Tensor, teacher: Tensor, mask: Tensor) -> Tensor:
    """Mean squared error over the positions that the mask keeps.

    Shapes: hidden states (batch, seq_len, hidden_size), of one width; mask (batch, seq_len) bool.
    Raises: ValueError if the mask keeps nothing.
    Source: Jiao et al. 2020, arXiv:1909.10351, equation 8, without its projection.
    """
    _refuse_empty(mask)
    return functional.mse_loss(student[mask].float(), teacher[mask].float())


def relation_loss(student: Tensor, teacher: Tensor, mask: Tensor, *, heads: int) -> Tensor:
    """KL(teacher ‖ student) of how each position relates to all others, averaged over positions and heads.

    A relation is softmax(v vᵀ / √d) of one attention layer's values (or queries, or keys) split into `heads`.

    Shapes: student and teacher (batch, seq_len, width), widths may differ; mask (batch, seq_len) bool.
    Returns: scalar, nats.
    Raises: ValueError if the mask keeps nothing or a width is no multiple of `heads`.
    Source: Wang et al. 2020, arXiv:2002.10957, section 3.2; several heads, arXiv:2012.15828, section 3.1.
    """
    _refuse_empty(mask)
    head_mask = mask[:, None, :].expand(-1, heads, -1)
    student_log = _log_relations(student, mask, heads)[head_mask]
    teacher_log = _log_relations(teacher, mask, heads)[head_mask]
    return functional.kl_div(student_log, teacher_log, reduction="batchmean", log_target=True)


def _log_relations(vectors: Tensor, mask: Tensor, heads: int) -> Tensor:
    """Shapes: (batch, seq_len, width) to (batch, heads, seq_len, seq_len), logs of rows that sum to 1."""
    batch, seq_len, width = vectors.shape
    if width % heads:
        raise ValueError(f"a width of {width} does not split into {heads} heads")
    head_vectors = vectors.view(batch, seq_len, heads, width // heads).transpose(1, 2)
    logits = (head_vectors @ head_vectors.transpose(-1, -2)).float() / (width // heads) ** 0.5
    # A large negative number rather than -inf: 0 · -inf would make the divergence NaN.
    return functional.log_softmax(logits.masked_fill(~mask[:, None, None, :], -1e4), dim=-1)


def _refuse_empty(mask: Tensor) -> None:
    if not torch.any(mask):
        raise ValueError("the mask keeps no position")
