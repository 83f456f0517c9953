"""A text, or a pair of texts, as windows: whole, truncated, refused or split."""

from collections.abc import Iterator
from typing import get_args

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, models, pre_tokenizers

from models.tasks.base import (
    NO_TOKEN,
    Features,
    InputTooLongError,
    UnsupportedInputError,
    Usage,
    unknown_id,
    without_limits,
)
from models.tasks.text.windows import OnOverflow, TextEncoding, encode_text

MODES: tuple[OnOverflow, ...] = get_args(OnOverflow)
# Each is one token of both tokenizers, so that words count tokens.
WORDS = ("alpha", "beta", "gamma", "delta", "epsilon", "zeta", "eta", "theta", "iota", "kappa")
SINGLE = "alpha beta gamma delta"
PAIR_FRAME = {"bert": 3, "roberta": 4}  # [CLS] a [SEP] b [SEP], <s> a </s></s> b </s>

# The tokenizers are read, never changed: one serves all examples.
few_examples = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=40)


@pytest.fixture(params=["bert", "roberta"])
def kind(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


@pytest.fixture
def tokenizer(kind: str, request: pytest.FixtureRequest) -> Tokenizer:
    return without_limits(request.getfixturevalue(f"{kind}_tokenizer"))


def words(count: int, first: int = 0) -> str:
    return " ".join(WORDS[(first + index) % len(WORDS)] for index in range(count))


def encode(
    tokenizer: Tokenizer,
    text: str,
    pair: str | None = None,
    *,
    max_length: int,
    on_overflow: OnOverflow = "window",
    max_windows: int | None = None,
) -> TextEncoding:
    """`encode_text`, with what holds of whatever it returns."""
    encoding = encode_text(
        tokenizer, text, pair, max_length=max_length, on_overflow=on_overflow, max_windows=max_windows
    )
    windows, usage = encoding.windows, encoding.usage
    assert all(window.input_ids.dtype == window.token_type_ids.dtype == np.int64 for window in windows)
    assert all(window.input_ids.shape == window.token_type_ids.shape == (len(window),) for window in windows)
    assert all(len(window) <= max_length for window in windows)
    assert usage.tokens_in == len(tokenizer.encode(text, pair))
    assert usage.tokens_used == sum(map(len, windows))
    assert usage.windows == len(windows)
    assert usage.truncated is (on_overflow == "truncate" and usage.tokens_used < usage.tokens_in)
    return encoding


def assert_reads(window: Features, tokenizer: Tokenizer, text: str, pair: str | None = None) -> None:
    """The window is what the tokenizer by itself makes of these texts."""
    expected = tokenizer.encode(text, pair)
    assert window.input_ids.tolist() == expected.ids
    assert window.token_type_ids.tolist() == expected.type_ids


def parts(windows: tuple[Features, ...], frame: int) -> Iterator[tuple[int, int]]:
    """The first word of each window and the number of its words; `frame` counts all its other tokens."""
    first = 0
    for window in windows:
        yield first, len(window) - frame
        first += len(window) - frame


@pytest.mark.parametrize("on_overflow", MODES)
@pytest.mark.parametrize("pair", [None, "iota kappa"])
def test_texts_exactly_at_the_limit_are_one_whole_window_and_one_token_more_is_not(
    tokenizer: Tokenizer, on_overflow: OnOverflow, pair: str | None
) -> None:
    tokens = len(tokenizer.encode(SINGLE, pair))
    encoding = encode(tokenizer, SINGLE, pair, max_length=tokens, on_overflow=on_overflow, max_windows=1)
    (window,) = encoding.windows
    assert_reads(window, tokenizer, SINGLE, pair)
    assert encoding.usage == Usage(tokens, tokens, windows=1, truncated=False)
    with pytest.raises(InputTooLongError):
        encode(tokenizer, SINGLE, pair, max_length=tokens - 1, on_overflow="error")


@pytest.mark.parametrize("on_overflow", MODES)
@pytest.mark.parametrize(
    ("text", "pair"), [("\u200b", None), ("\x00", None), ("\x00", SINGLE), (SINGLE, "\u200b"), ("\x00", "\x00")]
)
def test_texts_without_a_visible_character_are_one_window(
    tokenizer: Tokenizer, on_overflow: OnOverflow, text: str, pair: str | None
) -> None:
    encoding = encode(tokenizer, text, pair, max_length=16, on_overflow=on_overflow)
    (window,) = encoding.windows
    assert_reads(window, tokenizer, text, pair)


def test_a_bert_tokenizer_leaves_nothing_but_the_frame_of_an_invisible_text(bert_tokenizer: Tokenizer) -> None:
    encoding = encode(without_limits(bert_tokenizer), "\u200b", max_length=2)
    assert encoding.windows[0].input_ids.tolist() == [2, 3]  # [CLS] [SEP]


@pytest.mark.parametrize("swapped", [False, True])
def test_a_long_text_beside_an_invisible_one_is_cut_alone(bert_tokenizer: Tokenizer, swapped: bool) -> None:
    tokenizer = without_limits(bert_tokenizer)

    def pair(long: str) -> tuple[str, str]:
        return ("\x00", long) if swapped else (long, "\x00")

    (kept,) = encode(tokenizer, *pair(words(8)), max_length=8, on_overflow="truncate").windows
    assert_reads(kept, tokenizer, *pair(words(5)))
    first, second = encode(tokenizer, *pair(words(8)), max_length=8).windows
    assert_reads(first, tokenizer, *pair(words(4)))
    assert_reads(second, tokenizer, *pair(words(4, first=4)))


@few_examples
@given(count=st.integers(7, 60), max_length=st.integers(3, 8))
def test_truncate_cuts_the_end_of_a_text(tokenizer: Tokenizer, count: int, max_length: int) -> None:
    (window,) = encode(tokenizer, words(count), max_length=max_length, on_overflow="truncate").windows
    assert len(window) == max_length
    assert_reads(window, tokenizer, words(max_length - 2))


@pytest.mark.parametrize(
    ("lengths", "kept"),  # words, of a room for 7
    [((10, 2), (5, 2)), ((2, 10), (2, 5)), ((10, 10), (3, 4)), ((4, 4), (3, 4)), ((3, 10), (3, 4)), ((10, 4), (4, 3))],
)
def test_truncate_cuts_the_longer_of_two_texts(
    tokenizer: Tokenizer, kind: str, lengths: tuple[int, int], kept: tuple[int, int]
) -> None:
    text, pair = words(lengths[0]), words(lengths[1], first=5)
    (window,) = encode(tokenizer, text, pair, max_length=7 + PAIR_FRAME[kind], on_overflow="truncate").windows
    assert_reads(window, tokenizer, words(kept[0]), words(kept[1], first=5))


@few_examples
@given(first=st.integers(0, 30), second=st.integers(0, 30), room=st.integers(1, 60))
def test_truncate_cuts_a_pair_as_the_tokenizers_own_truncation_does(
    tokenizer: Tokenizer, kind: str, first: int, second: int, room: int
) -> None:
    max_length = room + PAIR_FRAME[kind]
    (window,) = encode(tokenizer, words(first), words(second), max_length=max_length, on_overflow="truncate").windows
    tokenizer.enable_truncation(max_length)
    expected = tokenizer.encode(words(first), words(second))
    tokenizer.no_truncation()
    assert window.input_ids.tolist() == expected.ids
    assert window.token_type_ids.tolist() == expected.type_ids


def test_windows_of_a_text_by_hand(tokenizer: Tokenizer) -> None:
    encoding = encode(tokenizer, words(10), max_length=6)  # room for 4: three windows, of 4, 3 and 3
    first, second, third = encoding.windows
    assert_reads(first, tokenizer, "alpha beta gamma delta")
    assert_reads(second, tokenizer, "epsilon zeta eta")
    assert_reads(third, tokenizer, "theta iota kappa")
    assert encoding.usage == Usage(tokens_in=12, tokens_used=16, windows=3, truncated=False)


@few_examples
@given(count=st.integers(1, 80), max_length=st.integers(3, 30))
def test_windows_cover_every_token_once_in_as_few_parts_of_like_length_as_hold_them(
    tokenizer: Tokenizer, count: int, max_length: int
) -> None:
    windows = encode(tokenizer, words(count), max_length=max_length).windows
    covered = list(parts(windows, frame=2))
    for window, (first, length) in zip(windows, covered, strict=True):
        assert_reads(window, tokenizer, words(length, first))
    lengths = [length for _, length in covered]
    assert sum(lengths) == count
    assert max(lengths) - min(lengths) <= 1
    assert (len(windows) - 1) * (max_length - 2) < count


@few_examples
@given(longer=st.integers(1, 60), data=st.data(), room=st.integers(1, 20), swapped=st.booleans())
def test_windows_of_a_pair_split_the_longer_text_and_hold_the_shorter_whole(
    tokenizer: Tokenizer, kind: str, longer: int, data: st.DataObject, room: int, swapped: bool
) -> None:
    shorter = data.draw(st.integers(0, longer - 1))  # which of two equals is split, nobody needs to know
    frame = PAIR_FRAME[kind] + shorter

    def pair(long: str) -> tuple[str, str]:
        return (words(shorter, first=7), long) if swapped else (long, words(shorter, first=7))

    windows = encode(tokenizer, *pair(words(longer)), max_length=frame + room).windows
    covered = list(parts(windows, frame))
    for window, (first, length) in zip(windows, covered, strict=True):
        assert_reads(window, tokenizer, *pair(words(length, first)))
    lengths = [length for _, length in covered]
    assert sum(lengths) == longer
    assert max(lengths) - min(lengths) <= 1
    assert (len(windows) - 1) * room < longer


def test_two_long_texts_of_one_length_are_split_too(tokenizer: Tokenizer, kind: str) -> None:
    encoding = encode(tokenizer, words(6), words(6), max_length=PAIR_FRAME[kind] + 6 + 2)
    assert encoding.usage.windows == 3


def test_error_refuses_with_the_counts_of_tokens(tokenizer: Tokenizer, kind: str) -> None:
    with pytest.raises(InputTooLongError, match=r"takes 12 tokens and the model reads 11 at once; shorten it"):
        encode(tokenizer, words(10), max_length=11, on_overflow="error")
    tokens = 10 + PAIR_FRAME[kind]
    with pytest.raises(InputTooLongError, match=rf"takes {tokens} tokens and the model reads 11 at once"):
        encode(tokenizer, words(5), words(5), max_length=11, on_overflow="error")


def test_a_shorter_text_that_fills_the_window_is_refused_with_its_count(tokenizer: Tokenizer, kind: str) -> None:
    max_length = PAIR_FRAME[kind] + 8
    with pytest.raises(InputTooLongError, match=rf"the shorter takes 8 of the model's {max_length} tokens; shorten it"):
        encode(tokenizer, words(8), words(9), max_length=max_length)
    assert encode(tokenizer, words(7), words(9), max_length=max_length).usage.windows == 9


def test_more_windows_than_the_limit_are_refused_with_both_counts(tokenizer: Tokenizer) -> None:
    assert encode(tokenizer, words(12), max_length=6, max_windows=3).usage.windows == 3
    with pytest.raises(InputTooLongError, match=r"needs 4 windows and the limit is 3; shorten it"):
        encode(tokenizer, words(13), max_length=6, max_windows=3)


def test_the_limit_of_windows_binds_no_truncated_text(tokenizer: Tokenizer) -> None:
    assert encode(tokenizer, words(13), max_length=6, on_overflow="truncate", max_windows=1).usage.truncated


@pytest.mark.parametrize("on_overflow", ["truncate", "window"])
def test_a_model_that_its_own_marks_fill_reads_no_text(roberta_tokenizer: Tokenizer, on_overflow: OnOverflow) -> None:
    tokenizer = without_limits(roberta_tokenizer)
    with pytest.raises(InputTooLongError, match="leaving no room for text"):
        encode_text(tokenizer, "alpha", "beta gamma", max_length=3, on_overflow=on_overflow)


def test_a_text_that_nothing_is_left_of_is_refused_for_no_field_of_the_request() -> None:
    tokenizer = Tokenizer(models.WordLevel({"[UNK]": 0}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    with pytest.raises(UnsupportedInputError) as refusal:
        encode_text(tokenizer, " ", max_length=16, on_overflow="window")
    assert str(refusal.value) == "the tokenizer leaves nothing of this text; send one with letters"
    assert refusal.value.field == ""


TEXT = "known ไทย known 🙂 known ไทย"


@pytest.mark.parametrize("on_overflow", ["truncate", "window"])
@pytest.mark.parametrize("max_length", [2, 4, 100])
def test_unknown_tokens_are_counted_before_a_text_is_cut(on_overflow: OnOverflow, max_length: int) -> None:
    vocabulary = {"[UNK]": 3, "known": 4}
    model = models.WordLevel(vocabulary, unk_token="[UNK]")
    tokenizer = Tokenizer(model)
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    encoding = encode_text(
        tokenizer, TEXT, max_length=max_length, on_overflow=on_overflow, unknown=unknown_id(tokenizer)
    )
    assert (encoding.usage.tokens_in, encoding.usage.unknown_tokens) == (6, 3)


@pytest.mark.parametrize(
    ("model", "unknown"),
    [
        (models.WordPiece({"[UNK]": 7}, unk_token="[UNK]"), 7),
        (models.WordLevel({"<unk>": 5}, unk_token="<unk>"), 5),
        (models.BPE({"<unk>": 2}, [], unk_token="<unk>"), 2),
        (models.BPE({"a": 2}, []), NO_TOKEN),
        (models.Unigram([("a", -1.0), ("<unk>", 0.0)], unk_id=1), 1),
        (models.Unigram([("a", -1.0)], byte_fallback=True), NO_TOKEN),
        (models.WordPiece({"a": 7}, unk_token="[UNK]"), NO_TOKEN),
    ],
    ids=["WordPiece", "WordLevel", "BPE", "byte-level", "Unigram", "fallback", "without"],
)
def test_the_unknown_token_is_found_in_every_kind_of_tokenizer(model: models.Model, unknown: int) -> None:
    assert unknown_id(Tokenizer(model)) == unknown
