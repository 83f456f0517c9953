"""Makes windows of a text or a pair: whole where it fits, else truncated, refused or split."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Self

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from models.tasks.base import (
    NO_TOKEN,
    NOTHING_LEFT,
    Features,
    InputTooLongError,
    UnsupportedInputError,
    Usage,
)
from models.tasks.directory.tokenizer import DEFAULT_SETTINGS, TokenizerSettings
from models.tasks.text.pieces import Extract, extract, tokens_over

OnOverflow = Literal["truncate", "error", "window"]


@dataclass(frozen=True, slots=True)
class TextEncoding:
    """The windows of a text in order, and what it cost."""

    windows: tuple[Features, ...]
    usage: Usage


def encode_text(
    tokenizer: Tokenizer,
    text: str,
    text_pair: str | None = None,
    *,
    max_length: int,
    on_overflow: OnOverflow,
    max_windows: int | None = None,
    unknown: int = NO_TOKEN,
    settings: TokenizerSettings = DEFAULT_SETTINGS,
    whole_first: bool = False,
) -> TextEncoding:
    """Encode a text or a pair into windows of at most `max_length` tokens.

    What is over that is cut from the longer text, at the side that the tokenizer's settings name (`truncate`), refused
    (`error`), or the longer text is split into as few windows of like length as hold it, each beside the whole of the
    other (`window`). `unknown`: the id of the token for what the vocabulary does not have. `whole_first`: it is always
    the second that is split.

    Raises: InputTooLongError; UnsupportedInputError if nothing is left of it.
    """
    texts = [text] if text_pair is None else [text, text_pair]
    parts = [readable(tokenizer, part, max_length, on_overflow, max_windows, unknown, settings) for part in texts]
    # `encode` would hold Python's lock for as long as it runs; `encode_batch` lets go of it.
    read = parts[0].text if text_pair is None else (parts[0].text, parts[1].text)
    encoding = tokenizer.encode_batch([read])[0]
    if not encoding.ids:
        raise UnsupportedInputError(NOTHING_LEFT)
    ids = np.array(encoding.ids, dtype=np.int64)
    type_ids = np.array(encoding.type_ids, dtype=np.int64) if settings.token_types else np.zeros_like(ids)
    unknown_tokens = int(np.count_nonzero(ids == unknown)) + sum(part.left_out_unknown for part in parts)
    if len(ids) <= max_length:
        usage = Usage(len(ids), len(ids), windows=1, truncated=False, unknown_tokens=unknown_tokens)
        return TextEncoding((Features(ids, type_ids),), usage)
    if on_overflow == "error":
        raise too_long(len(ids), max_length)
    layout = Layout.of(encoding.sequence_ids, max_length)
    if on_overflow == "truncate":
        left_out = [part.left_out for part in parts]
        positions = [layout.truncate(left_out, settings.truncation_side)]
        return _encoding(ids, type_ids, positions, len(ids) + sum(left_out), unknown_tokens)
    positions = layout.split(max_windows, whole_first=whole_first)
    return _encoding(ids, type_ids, positions, len(ids), unknown_tokens)


def readable(
    tokenizer: Tokenizer,
    text: str,
    max_length: int,
    on_overflow: OnOverflow,
    max_windows: int | None,
    unknown: int,
    settings: TokenizerSettings,
) -> Extract:
    """Take of a text what is enough where the rest is cut off, else all of it; what is far over the limit is refused
    before it is tokenized to its end. Raises: InputTooLongError.
    """
    if on_overflow == "truncate":
        from_right = settings.truncation_side == "left"
        return extract(tokenizer, text, max_length + 1, unknown=unknown, from_right=from_right)
    if on_overflow == "error" and (tokens := tokens_over(tokenizer, text, max_length)):
        raise too_long(f"at least {tokens}", max_length)
    if max_windows is not None and (tokens := tokens_over(tokenizer, text, max_windows * max_length)):
        raise too_many(f"at least {-(-tokens // max_length)}", max_windows)
    return Extract(text)


def too_long(tokens: int | str, max_length: int) -> InputTooLongError:
    return InputTooLongError(
        f"the text takes {tokens} tokens and the model reads {max_length} at once; shorten it, or let on_overflow be "
        "truncate or window"
    )


def too_many(windows: int | str, max_windows: int) -> InputTooLongError:
    return InputTooLongError(
        f"the text needs {windows} windows and the limit is {max_windows}; shorten it, or let on_overflow be truncate"
    )


@dataclass(frozen=True, slots=True)
class Layout:
    """Positions of the special tokens (the frame), which every window has, and of the tokens of each text."""

    frame: NDArray[np.intp]
    first: NDArray[np.intp]
    second: NDArray[np.intp]
    max_length: int

    @classmethod
    def of(cls, sequence_ids: Sequence[int | None], max_length: int) -> Self:
        """Tell the tokens apart by the text that each is of. Raises: InputTooLongError if the frame fills a window."""
        owners = np.array([-1 if sequence is None else sequence for sequence in sequence_ids])
        frame = np.flatnonzero(owners < 0)
        if len(frame) >= max_length:
            raise InputTooLongError(
                f"the model's limit of {max_length} tokens is used up by special tokens, leaving no room for text"
            )
        return cls(frame, np.flatnonzero(owners == 0), np.flatnonzero(owners == 1), max_length)

    def truncate(self, left_out: Sequence[int], side: str) -> NDArray[np.intp]:
        """Choose what one window keeps. `left_out`: further tokens of each text, which were not read, at that side."""
        room = self.max_length - len(self.frame)
        of_first = _share_of_first(len(self.first) + left_out[0], len(self.second) + sum(left_out[1:]), room)
        kept = [
            positions[:count] if side == "right" else positions[len(positions) - count :]
            for positions, count in ((self.first, of_first), (self.second, room - of_first))
        ]
        return np.concatenate([self.frame, *kept])

    def split(self, max_windows: int | None, *, whole_first: bool) -> list[NDArray[np.intp]]:
        """Divide the longer text, or the second, into windows. Raises: InputTooLongError."""
        is_second_split = whole_first or len(self.first) < len(self.second)
        longer, shorter = (self.second, self.first) if is_second_split else (self.first, self.second)
        room = self.max_length - len(self.frame) - len(shorter)
        if room < 1 and whole_first:
            raise InputTooLongError(
                f"the first text takes {len(shorter)} of the model's {self.max_length} tokens and leaves no room for "
                "the second; shorten it, or let on_overflow be truncate"
            )
        if room < 1:
            raise InputTooLongError(
                f"both texts are too long for windows: the shorter takes {len(shorter)} of the model's "
                f"{self.max_length} tokens; shorten it, or let on_overflow be truncate"
            )
        count = -(-len(longer) // room)
        if max_windows is not None and count > max_windows:
            raise too_many(count, max_windows)
        return [np.concatenate([self.frame, shorter, part]) for part in np.array_split(longer, count)]


def _share_of_first(first: int, second: int, room: int) -> int:
    """Divide the room as tokenizers' longest_first does: the shorter text is cut only if both are over half of it, and
    of an odd number of tokens the longer text has one more, or the second of two that are equally long.
    """
    shorter = min(first, second)
    kept = shorter if 2 * shorter <= room else room // 2
    return room - kept if first > second else kept


def _encoding(
    ids: NDArray[np.int64],
    type_ids: NDArray[np.int64],
    positions: list[NDArray[np.intp]],
    tokens: int,
    unknown_tokens: int,
) -> TextEncoding:
    """Make a window of each of these lists of positions, which stand in any order. `tokens`: of the whole."""
    windows = tuple(Features(ids[order], type_ids[order]) for order in map(np.sort, positions))
    usage = Usage(
        tokens_in=tokens,
        tokens_used=sum(len(window) for window in windows),
        windows=len(windows),
        truncated=len(windows) == 1 and len(windows[0]) < tokens,
        unknown_tokens=unknown_tokens,
    )
    return TextEncoding(windows, usage)
