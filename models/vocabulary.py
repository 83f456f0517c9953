"""Maps a vocabulary onto another one to one, so that a teacher reads the windows of a student."""

import json
from typing import Any

import torch
from tokenizers import processors
from torch import nn
from transformers import PreTrainedModel

from models.tasks.errors import InputError

ROLES = ("cls_token", "sep_token", "pad_token", "unk_token", "mask_token")
READING = ("normalizer", "pre_tokenizer")  # what cuts a text into words, before the vocabulary is asked

# Tokenizers are transformers' fast ones, which have no common type: Any.


class VocabularyError(InputError):
    """A vocabulary does not map onto another one; the text says what differs first."""


def id_map(student: Any, teacher: Any, *, pairs: bool = True) -> list[int] | None:
    """Find the teacher's id for each of the student's, or None where both read alike. Special tokens map by their role.

    `pairs`: they must lay out a pair of texts alike too.

    Raises: VocabularyError that names the first token without a counterpart, or what else is read otherwise.
    """
    ours, theirs = _state(student), _state(teacher)
    if ours == theirs:
        return None
    for part in READING:
        if ours[part] != theirs[part]:
            raise VocabularyError(f"their {part} differs")
    if _algorithm(ours) != _algorithm(theirs):
        raise VocabularyError("their algorithm differs")
    for pair in {False, pairs}:
        if student.num_special_tokens_to_add(pair=pair) != teacher.num_special_tokens_to_add(pair=pair):
            raise VocabularyError(f"they put other marks around {'a pair of texts' if pair else 'a text'}")
    by_role = {getattr(student, role): getattr(teacher, role) for role in ROLES}
    known, mapped = teacher.get_vocab(), []
    for token, _ in sorted(student.get_vocab().items(), key=lambda pair: pair[1]):
        counterpart = by_role.get(token) or token
        if counterpart not in known:
            raise VocabularyError(f"the token {token!r} has no counterpart")
        mapped.append(known[counterpart])
    return mapped


def read_with(teacher: PreTrainedModel, ids: list[int]) -> None:
    """Let the teacher read the student's ids: its word embeddings are put into their order."""
    embeddings = teacher.get_input_embeddings()
    assert isinstance(embeddings, nn.Embedding), "every encoder's are"
    rows = embeddings.weight.detach()[torch.tensor(ids)]
    teacher.set_input_embeddings(nn.Embedding.from_pretrained(rows, freeze=True))


def one_separator(tokenizer: Any) -> None:
    """Put one separator between the two texts of a pair, where MPNet and RoBERTa have two: as BERT, so that positions
    of a window are the same for both.
    """
    cls, sep = tokenizer.cls_token, tokenizer.sep_token
    tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{cls} $A {sep}",
        pair=f"{cls} $A {sep} $B {sep}",
        special_tokens=[(cls, tokenizer.cls_token_id), (sep, tokenizer.sep_token_id)],
    )


def _state(tokenizer: Any) -> dict[str, Any]:
    """Collect all that makes tokens of a text; where it is cut and padded is the task's to say."""
    state: dict[str, Any] = json.loads(tokenizer.backend_tokenizer.to_str())
    return {key: value for key, value in state.items() if key not in ("truncation", "padding")}


def _algorithm(state: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in state["model"].items() if key not in ("vocab", "unk_token")}
