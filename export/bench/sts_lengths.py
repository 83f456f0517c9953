"""Holds the lengths of STS-B dev, so that a pass can be timed without it, and reads a file's."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random

from tokenizers import Tokenizer

from models.files import read_tsv

WORD = re.compile(r"\w+|[^\w\s]")

# How many pairs of STS-B dev (Cer et al. 2017) have so many tokens of BERT's uncased vocabulary, special ones counted.
PAIR_TOKENS: Mapping[int, int] = {
    11: 1,
    12: 6,
    13: 17,
    14: 11,
    15: 34,
    16: 60,
    17: 79,
    18: 69,
    19: 67,
    20: 61,
    21: 92,
    22: 63,
    23: 53,
    24: 44,
    25: 40,
    26: 32,
    27: 19,
    28: 29,
    29: 27,
    30: 19,
    31: 21,
    32: 30,
    33: 30,
    34: 26,
    35: 35,
    36: 22,
    37: 26,
    38: 35,
    39: 30,
    40: 28,
    41: 27,
    42: 28,
    43: 25,
    44: 30,
    45: 24,
    46: 19,
    47: 20,
    48: 17,
    49: 17,
    50: 7,
    51: 6,
    52: 11,
    53: 17,
    54: 8,
    55: 11,
    56: 5,
    57: 8,
    58: 12,
    59: 11,
    60: 11,
    61: 4,
    62: 9,
    63: 3,
    64: 6,
    65: 6,
    66: 3,
    67: 4,
    68: 7,
    69: 6,
    70: 5,
    71: 6,
    72: 5,
    73: 4,
    74: 1,
    75: 1,
    76: 1,
    77: 4,
    78: 1,
    79: 1,
    82: 1,
    84: 1,
    94: 1,
}
# How many of its sentences have so many words, marks of punctuation counted.
SENTENCE_WORDS: Mapping[int, int] = {
    3: 1,
    4: 14,
    5: 84,
    6: 210,
    7: 323,
    8: 267,
    9: 247,
    10: 183,
    11: 152,
    12: 140,
    13: 111,
    14: 146,
    15: 97,
    16: 116,
    17: 111,
    18: 92,
    19: 90,
    20: 72,
    21: 81,
    22: 77,
    23: 56,
    24: 49,
    25: 41,
    26: 35,
    27: 32,
    28: 22,
    29: 38,
    30: 22,
    31: 19,
    32: 12,
    33: 15,
    34: 15,
    35: 9,
    36: 7,
    37: 4,
    38: 2,
    39: 1,
    40: 2,
    41: 1,
    43: 2,
    44: 1,
    45: 1,
}


@dataclass(frozen=True, slots=True)
class Lengths:
    """Holds the tokens of each pair, and the words of each sentence, two for each pair."""

    tokens: Sequence[int]
    words: Sequence[int]

    def part(self, pairs: int) -> "Lengths":
        """Take so many pairs with every length in proportion, in random order."""
        tokens, words = _spread(self.tokens, pairs), _spread(self.words, 2 * pairs)
        Random(0).shuffle(tokens)
        Random(0).shuffle(words)
        return Lengths(tokens, words)


def known_lengths() -> Lengths:
    return Lengths(
        *([length for length, count in table.items() for _ in range(count)] for table in (PAIR_TOKENS, SENTENCE_WORDS))
    )


def read_lengths(path: Path, tokenizer: Tokenizer) -> Lengths:
    """Read them of a table with pairs of sentences and a `score`. Raises: DataError."""
    pairs = [(example.text, example.text_pair or "") for example in read_tsv(path, "score")]
    tokens = [len(encoding.ids) for encoding in tokenizer.encode_batch(pairs)]
    return Lengths(tokens, [max(1, len(WORD.findall(text))) for pair in pairs for text in pair])


def _spread(values: Sequence[int], count: int) -> list[int]:
    """Pick so many of the values, evenly over their order by size."""
    ordered = sorted(values)
    return [ordered[(2 * number + 1) * len(ordered) // (2 * count)] for number in range(count)]
