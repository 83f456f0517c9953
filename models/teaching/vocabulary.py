"""Maps a vocabulary onto another one to one, so that a teacher reads the windows of a student."""

import json
from collections.abc import Sequence
from typing import Any

import torch
from tokenizers import processors
from transformers import PreTrainedModel

from models.tasks.errors import InputError

ROLES = ("cls_token", "sep_token", "pad_token", "unk_token", "mask_token")
SAMPLE = ("Who built it?", "Nobody.")
READING = ("normalizer", "pre_tokenizer")  # what cuts a text into words, before the vocabulary is asked

# Tokenizers are transformers' fast ones, which have no common type: Any.


class VocabularyError(InputError):
    """A vocabulary does not map onto another one; the text says what differs first."""


def id_map(student: Any, teacher: Any, *, pairs: bool = True, token_types: bool = False) -> list[int] | None:
    """Find the teacher's id for each of the student's, or None where both read alike. Special tokens map by their role.

    `pairs`: they must lay out a pair of texts alike too. `token_types`: the teacher reads them, so they must agree.

    Raises: VocabularyError that names the first token without a counterpart, or what else is read otherwise.
    """
    ours, theirs = tokenizer_state(student), tokenizer_state(teacher)
    if ours == theirs:
        return None
    by_role = {getattr(student, role): getattr(teacher, role) for role in ROLES}
    known, mapped = teacher.get_vocab(), []
    for token, _ in sorted(student.get_vocab().items(), key=lambda pair: pair[1]):
        counterpart = by_role.get(token) or token
        if counterpart not in known:
            raise VocabularyError(f"the token {token!r} has no counterpart")
        mapped.append(known[counterpart])
    for part in READING:
        if ours[part] != theirs[part]:
            raise VocabularyError(f"their {part} differs")
    if _algorithm(ours) != _algorithm(theirs):
        raise VocabularyError("their algorithm differs")
    for texts in [SAMPLE[:1], SAMPLE] if pairs else [SAMPLE[:1]]:
        ids, their_ids = student(*texts).input_ids, teacher(*texts).input_ids
        if [mapped[number] for number in ids] != their_ids:
            raise VocabularyError(f"they put other marks around {'a text' if len(texts) == 1 else 'a pair of texts'}")
        if token_types and _types(student, texts) != _types(teacher, texts):
            raise VocabularyError("their token types differ")
    return mapped


def read_with(teacher: PreTrainedModel, ids: list[int] | None, *, token_types: bool = True) -> None:
    """Let the teacher read a student's windows: by its own ids, and without token types if its tokenizer gives none."""
    table = None if ids is None else torch.tensor(ids)

    def translate(_: object, positional: tuple[Any, ...], inputs: dict[str, Any]) -> tuple[tuple[Any, ...], Any]:
        if table is not None:
            inputs["input_ids"] = table.to(inputs["input_ids"].device)[inputs["input_ids"]]
        if not token_types:
            inputs.pop("token_type_ids", None)
        return positional, inputs

    teacher.register_forward_pre_hook(translate, with_kwargs=True)


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


def tokenizer_state(tokenizer: Any) -> dict[str, Any]:
    """Collect all that makes tokens of a text; where it is cut and padded is the task's to say."""
    state: dict[str, Any] = json.loads(tokenizer.backend_tokenizer.to_str())
    return {key: value for key, value in state.items() if key not in ("truncation", "padding")}


def _types(tokenizer: Any, texts: Sequence[str]) -> list[int]:
    types: list[int] = tokenizer(*texts).encodings[0].type_ids
    return types


def _algorithm(state: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in state["model"].items() if key not in ("vocab", "unk_token")}
