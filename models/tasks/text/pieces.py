"""Tokenizes a long text piece by piece, and no further than matters: for memory and time.

A tokenizer takes 180 to 580 bytes a character: up to a gigabyte for the 2 MB that a request may have.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from tokenizers import Tokenizer

PIECE = 50_000  # characters that are tokenized at a time; a shorter text is tokenized as a whole
# The beginning of a word: better with the space that some tokenizers count as a part of it, the last pattern.
WORDS = (re.compile(r"\s\S"), re.compile(r" \S"))
LONGEST_WORD = 1_000  # characters in which a space is looked for
SLACK = 20  # tokens that a text without spaces may take more for each place where it is divided


@dataclass(frozen=True, slots=True)
class Extract:
    """What is read of a text: from the character `start` on; of what is left out, only its tokens are counted."""

    text: str
    start: int = 0
    left_out: int = 0
    left_out_unknown: int = 0


def tokens_over(tokenizer: Tokenizer, text: str, most: float) -> int | None:
    """Tell that a text takes more tokens than `most`, as soon as that is known. Returns: the tokens until then.

    Pieces may take a few tokens more than the text as a whole, so that of texts close to the limit nothing is told:
    they are short enough to be tokenized as a whole.
    """
    if len(text) <= max(PIECE, most):
        return None
    total = 0
    for number, (start, end) in enumerate(_pieces(text), 1):
        total += len(_ids(tokenizer, text[start:end]))
        if total > most + number * SLACK:
            return total
    return None


def extract(tokenizer: Tokenizer, text: str, least: int, *, unknown: int, from_right: bool = False) -> Extract:
    """Choose a part of a text with at least so many tokens, from one of its ends on, and count those of the rest."""
    if len(text) <= PIECE:
        return Extract(text)
    places = list(_pieces(text))
    if from_right:
        places.reverse()
    encoded = (_ids(tokenizer, text[start:end]) for start, end in places)
    kept = pieces = 0
    while pieces < len(places) and kept < least + pieces * SLACK:
        kept += len(next(encoded))
        pieces += 1
    left_out = left_out_unknown = 0
    for ids in encoded:
        left_out += len(ids)
        left_out_unknown += ids.count(unknown)
    first, last = min(places[:pieces])[0], max(places[:pieces])[1]
    return Extract(text[first:last], first, left_out, left_out_unknown)


def _pieces(text: str) -> Iterator[tuple[int, int]]:
    """Divide a text before words, or anywhere if there are no spaces: places as (start, end)."""
    start = 0
    while len(text) - start > PIECE:
        last = max(start + 1, start + PIECE - LONGEST_WORD), start + PIECE
        words = [match.start() for word in WORDS for match in word.finditer(text, *last)]
        end = words[-1] if words else start + PIECE
        yield start, end
        start = end
    yield start, len(text)


def _ids(tokenizer: Tokenizer, text: str) -> Sequence[int]:
    # `encode` would hold Python's lock for as long as it runs; `encode_batch` lets go of it.
    ids: list[int] = tokenizer.encode_batch([text], add_special_tokens=False)[0].ids
    return ids
