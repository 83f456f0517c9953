"""Makes windows of a text or a pair: whole where it fits, else truncated, refused or split."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from models.tasks.base import NO_TOKEN, Features, InputTooLongError, Usage

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
) -> TextEncoding:
    """Encode a text or a pair into windows of at most `max_length` tokens.

    What is over that is cut from the end of the longer text (`truncate`), refused (`error`), or the longer text is
    split into as few windows of like length as hold it, each beside the whole of the other (`window`). `unknown`: the
    id of the token for what the vocabulary does not have.

    Raises: InputTooLongError.
    """
    # `encode` would hold Python's lock for as long as it runs; `encode_batch` lets go of it.
    encoding = tokenizer.encode_batch([text if text_pair is None else (text, text_pair)])[0]
    ids = np.array(encoding.ids, dtype=np.int64)
    type_ids = np.array(encoding.type_ids, dtype=np.int64)
    unknown_tokens = int(np.count_nonzero(ids == unknown))
    if len(ids) <= max_length:
        usage = Usage(len(ids), len(ids), windows=1, truncated=False, unknown_tokens=unknown_tokens)
        return TextEncoding((Features(ids, type_ids),), usage)
    if on_overflow == "error":
        raise InputTooLongError(
            f"the text takes {len(ids)} tokens and the model reads {max_length} at once; shorten it, or let "
            "on_overflow be truncate or window"
        )
    owners = np.array([-1 if sequence is None else sequence for sequence in encoding.sequence_ids])
    frame = np.flatnonzero(owners < 0)
    first, second = np.flatnonzero(owners == 0), np.flatnonzero(owners == 1)
    room = max_length - len(frame)
    if room < 1:
        raise InputTooLongError(
            f"the model's limit of {max_length} tokens is used up by special tokens, leaving no room for text"
        )
    if on_overflow == "truncate":
        of_second = min(len(second), max(room // 2, room - len(first)))
        positions = [np.concatenate([frame, first[: room - of_second], second[:of_second]])]
        return _encoding(ids, type_ids, positions, unknown_tokens)
    longer, shorter = (first, second) if len(first) >= len(second) else (second, first)
    room -= len(shorter)
    if room < 1:
        raise InputTooLongError(
            f"both texts are too long for windows: the shorter takes {len(shorter)} of the model's {max_length} "
            "tokens; shorten it, or let on_overflow be truncate"
        )
    count = -(-len(longer) // room)
    if max_windows is not None and count > max_windows:
        raise InputTooLongError(
            f"the text needs {count} windows and the limit is {max_windows}; shorten it, or let on_overflow be truncate"
        )
    positions = [np.concatenate([frame, shorter, part]) for part in np.array_split(longer, count)]
    return _encoding(ids, type_ids, positions, unknown_tokens)


def _encoding(
    ids: NDArray[np.int64], type_ids: NDArray[np.int64], positions: list[NDArray[np.intp]], unknown_tokens: int
) -> TextEncoding:
    """Make a window of each of these lists of positions, which stand in any order."""
    windows = tuple(Features(ids[order], type_ids[order]) for order in map(np.sort, positions))
    usage = Usage(
        tokens_in=len(ids),
        tokens_used=sum(len(window) for window in windows),
        windows=len(windows),
        truncated=len(windows) == 1 and len(windows[0]) < len(ids),
        unknown_tokens=unknown_tokens,
    )
    return TextEncoding(windows, usage)
