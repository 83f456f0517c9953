"""Says how each teacher reads: its student's windows, or whole texts by its own tokenizer."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from transformers import PretrainedConfig

from models.tasks.base import Features
from models.tasks.directory.model import max_positions
from models.teachers import ModelError, check_tokenizer, load_tokenizer
from models.teaching.vocabulary import VocabularyError, id_map, tokenizer_state

ONE_LABEL = "single_label_classification"  # what transformers takes several labels for that nothing is said of
UNSAID = {"_name_or_path", "transformers_version", "architectures", "dtype", "torch_dtype"}  # change no answer

Text = tuple[str, str | None]
"""A text, or a pair."""


@dataclass(frozen=True, slots=True)
class Reader:
    """How a teacher reads. `ids`: its id for each of the student's, None where they are the same.

    `difference`: why it cannot read the student's windows, but only texts; empty where it can.
    """

    name: str
    tokenizer: Any  # one of transformers' fast ones, which have no common type
    config: PretrainedConfig
    ids: list[int] | None = None
    difference: str = ""

    @property
    def reads_token_types(self) -> bool:
        return "token_type_ids" in self.tokenizer.model_input_names

    @property
    def max_length(self) -> int:
        """The most tokens that the teacher reads at once."""
        limit: int = self.tokenizer.model_max_length
        return min(limit, max_positions(self.config.to_dict()))

    def read(self, texts: Sequence[Text], limit: int | None = None) -> list[Features]:
        """Encode whole texts as transformers does for this model; what is over its limit, or `limit`, is cut off."""
        max_length = min(self.max_length, limit or self.max_length)
        return [self._read(*text, max_length) for text in texts]

    def _read(self, text: str, text_pair: str | None, max_length: int) -> Features:
        encoding = self.tokenizer(text, text_pair, truncation=True, max_length=max_length)
        ids = np.array(encoding["input_ids"], dtype=np.int64)
        return Features(ids, np.array(encoding.get("token_type_ids", np.zeros_like(ids)), dtype=np.int64))

    def checksum(self) -> bytes:
        """Compute what changes with anything that changes what the teacher says, but its weights and its inputs."""
        config = {key: value for key, value in self.config.to_dict().items() if key not in UNSAID}
        state = [tokenizer_state(self.tokenizer), self.tokenizer.model_input_names, self.max_length, self.ids, config]
        return hashlib.sha256(json.dumps(state, sort_keys=True, default=str).encode()).digest()


def readers_of(
    teachers: Sequence[tuple[str, PretrainedConfig]],
    tokenizer: Any,
    student: str,
    known: Mapping[str, Any],
    *,
    pairs: bool,
    whole_texts: bool,
) -> list[Reader]:
    """Find how each teacher reads what the student's `tokenizer`, that of `student`, makes of a text.

    `known`: tokenizers that are loaded already. `pairs`: of texts are read as well. `whole_texts`: a teacher whose
    tokenizer does not map may read them.

    Raises: ModelError if teachers differ in what they say, or a tokenizer has to map and does not.
    """
    # tokenizers: transformers' fast ones, which have no common type
    readers: list[Reader] = []
    for name, config in teachers:
        first, first_config = teachers[0]
        if _says(config) != _says(first_config):
            raise ModelError(f"{name} and {first} cannot teach one student: their labels differ")
        theirs = known.get(name) or load_tokenizer(name)
        check_tokenizer(theirs, config, name)
        try:
            types = getattr(config, "type_vocab_size", 0) > 1 and "token_type_ids" in theirs.model_input_names
            readers.append(Reader(name, theirs, config, id_map(tokenizer, theirs, pairs=pairs, token_types=types)))
        except VocabularyError as error:
            if not whole_texts:
                raise ModelError(
                    f"{name} and {student} cannot teach one student: their tokenizer differs ({error})"
                ) from error
            readers.append(Reader(name, theirs, config, difference=str(error)))
    return readers


def _says(config: PretrainedConfig) -> tuple[dict[int, str] | None, str]:
    return config.id2label, config.problem_type or ONE_LABEL
