"""Cuts a half-depth DistilBERT student out of a BERT-family teacher."""

import re
from collections.abc import Callable, Sequence
from typing import TypeVar

from torch import Tensor
from transformers import DistilBertConfig, PretrainedConfig, PreTrainedModel

from models.tasks.errors import InputError

SUPPORTED = ("bert", "distilbert", "roberta", "xlm-roberta")
DROPOUTS = ("hidden_dropout_prob", "attention_probs_dropout_prob", "dropout", "attention_dropout")
"""The first two are BERT's and RoBERTa's, the others DistilBERT's."""

# BERT's names within a layer, and DistilBERT's.
LAYER_NAMES = {
    "attention.self.query": "attention.q_lin",
    "attention.self.key": "attention.k_lin",
    "attention.self.value": "attention.v_lin",
    "attention.output.dense": "attention.out_lin",
    "attention.output.LayerNorm": "sa_layer_norm",
    "intermediate.dense": "ffn.lin1",
    "output.dense": "ffn.lin2",
    "output.LayerNorm": "output_layer_norm",
}

# The names of a head for masked language modelling: BERT's and RoBERTa's, and DistilBERT's.
HEAD_NAMES = {
    "cls.predictions.transform.dense": "vocab_transform",
    "cls.predictions.transform.LayerNorm": "vocab_layer_norm",
    "cls.predictions.bias": "vocab_projector.bias",
    "lm_head.dense": "vocab_transform",
    "lm_head.layer_norm": "vocab_layer_norm",
    "lm_head.bias": "vocab_projector.bias",
}

StudentT = TypeVar("StudentT", bound=PreTrainedModel)


class StudentError(InputError):
    """No such student can be cut from this teacher; the text says what can."""


def parse_layers(text: str, depth: int) -> tuple[int, ...]:
    """Read `--layers`: "3" is a count, "0,2,5" a list of the teacher's layers, counted from 0.

    Raises: StudentError.
    """
    try:
        numbers = tuple(int(part) for part in text.split(","))
    except ValueError:
        raise StudentError(f"--layers takes a count such as 3 or a list such as 0,2,5, not {text!r}") from None
    if "," not in text:
        return spread_layers(numbers[0], depth)
    if list(numbers) != sorted(set(numbers)) or numbers[0] < 0 or numbers[-1] >= depth:
        raise StudentError(
            f"--layers {text}: layer numbers must be in ascending order, without repeats, between 0 and {depth - 1}"
        )
    return numbers


def spread_layers(count: int, depth: int) -> tuple[int, ...]:
    """Spread `count` layers evenly from the first: every other one for half the depth.

    Raises: StudentError if the teacher has fewer layers than that, or the count is below 1.
    """
    if not 1 <= count <= depth:
        raise StudentError(f"a student of {count} layers cannot be cut from a teacher of {depth}")
    return tuple(i * depth // count for i in range(count))


def set_dropout(config: PretrainedConfig, rate: float) -> None:
    """Give every dropout of an encoder this rate."""
    for name in DROPOUTS:
        if hasattr(config, name):
            setattr(config, name, rate)


def check_supported(teacher: PretrainedConfig) -> None:
    """Refuse a teacher of another kind. Raises: StudentError."""
    if teacher.model_type not in SUPPORTED:
        raise StudentError(
            f"a teacher of type {teacher.model_type!r} is not supported; these are: {', '.join(SUPPORTED)}"
        )


def student_config(
    teacher: PretrainedConfig, layers: Sequence[int], hidden_size: int | None = None
) -> DistilBertConfig:
    """Configure a student of the teacher's width, or of another with heads and feed-forward layers in proportion.

    Raises: StudentError.
    """
    check_supported(teacher)
    fields = teacher.to_dict()
    is_distilbert = teacher.model_type == "distilbert"
    width, heads = teacher.hidden_size, teacher.num_attention_heads
    hidden_size = hidden_size or width
    if hidden_size * heads % width:
        raise StudentError(
            f"a width of {hidden_size} does not split into heads of {width // heads}, as the teacher's are"
        )
    return DistilBertConfig(
        vocab_size=teacher.vocab_size,
        max_position_embeddings=teacher.max_position_embeddings - _position_offset(teacher),
        n_layers=len(layers),
        n_heads=hidden_size * heads // width,
        dim=hidden_size,
        hidden_dim=fields["hidden_dim" if is_distilbert else "intermediate_size"] * hidden_size // width,
        activation=fields["activation" if is_distilbert else "hidden_act"],
        pad_token_id=teacher.pad_token_id,
        id2label=teacher.id2label,
        label2id=teacher.label2id,
        problem_type=teacher.problem_type,
        dropout=0.0,
        attention_dropout=0.0,
        qa_dropout=0.0,
        seq_classif_dropout=0.0,
    )


def make_student(
    teacher: PreTrainedModel, student_class: Callable[[DistilBertConfig], StudentT], layers: Sequence[int]
) -> StudentT:
    """Make a student with the teacher's embeddings, the chosen layers (counted from 0) and, where alike, its head.

    DistilBERT has neither token types nor a pooler. The teacher's token-type row 0 is added to the positions,
    which makes single-segment inputs exact; the row for second segments is dropped.

    Raises: StudentError.
    """
    student = student_class(student_config(teacher.config, layers))
    weights, encoder = _renamed(teacher, layers), student.base_model
    shapes = {name: tensor.shape for name, tensor in encoder.state_dict().items()}
    missing_names = [name for name, shape in shapes.items() if name not in weights or weights[name].shape != shape]
    if missing_names:
        raise StudentError(f"the teacher lacks {', '.join(missing_names)}")
    encoder.load_state_dict({name: weights[name] for name in shapes})
    if student is not encoder:
        state, head = student.state_dict(), _head_renamed(teacher)
        shared_names = [name for name in state if name in head and state[name].shape == head[name].shape]
        student.load_state_dict(
            state | {name: head[name] for name in shared_names if not name.startswith("distilbert.")}
        )
    return student


def _renamed(teacher: PreTrainedModel, layers: Sequence[int]) -> dict[str, Tensor]:
    """Put the weights that the student keeps of the teacher's encoder under DistilBERT's names."""
    weights = {name: tensor.detach().clone() for name, tensor in teacher.base_model.state_dict().items()}
    student_weights = {}
    for name, tensor in weights.items():
        match = re.fullmatch(r"(?:encoder|transformer)\.layer\.(\d+)\.(.+)\.(weight|bias)", name)
        if match and int(match[1]) in layers:
            part = LAYER_NAMES.get(match[2], match[2])
            student_weights[f"transformer.layer.{layers.index(int(match[1]))}.{part}.{match[3]}"] = tensor
        elif name == "embeddings.position_embeddings.weight":
            student_weights[name] = tensor[_position_offset(teacher.config) :]
        elif name.startswith("embeddings."):
            student_weights[name] = tensor
    token_types = weights.get("embeddings.token_type_embeddings.weight")
    if token_types is not None:
        student_weights["embeddings.position_embeddings.weight"] += token_types[0]
    return student_weights


def _head_renamed(teacher: PreTrainedModel) -> dict[str, Tensor]:
    """Put the teacher's weights under DistilBERT's names, where those of its head differ."""
    weights = {}
    for name, tensor in teacher.state_dict().items():
        part, _, kind = name.rpartition(".")
        weights[HEAD_NAMES.get(name) or (f"{HEAD_NAMES[part]}.{kind}" if part in HEAD_NAMES else name)] = tensor
    return weights


def _position_offset(config: PretrainedConfig) -> int:
    """Returns: rows before the first position: RoBERTa kinds number positions from pad_token_id + 1."""
    return (config.pad_token_id or 0) + 1 if "roberta" in config.model_type else 0
