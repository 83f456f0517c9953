"""A long text in pieces: told to be too long early, cut where that is enough, and counted to its end."""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from tokenizers import Tokenizer

from models.tasks import qa
from models.tasks.base import InputTooLongError, unknown_id, without_limits
from models.tasks.entities import EntitiesInput, EntityRecognition
from models.tasks.qa import QAInput, QuestionAnswering
from models.tasks.text import pieces
from models.tasks.text.pieces import extract, tokens_over
from models.tasks.text.windows import encode_text

WORDS = ("alpha", "beta", "gamma", "delta")
TEXTS = {
    "words": " ".join(WORDS[index % 4] for index in range(400)),
    "no spaces": "alpha-" * 400,
    "lines": "\n".join(["alpha beta 🂡", "", "  gamma"] * 60),
    "one unknown word": "x" * 3000,
}


@pytest.fixture(autouse=True)
def short_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pieces, "PIECE", 100)
    monkeypatch.setattr(qa, "PIECE", 100)
    monkeypatch.setattr(pieces, "SLACK", 2)


@pytest.fixture(params=["bert", "roberta"])
def tokenizer(request: pytest.FixtureRequest) -> Tokenizer:
    return without_limits(request.getfixturevalue(f"{request.param}_tokenizer"))


class Counting:
    """A tokenizer that keeps count of the characters it was given."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self.tokenizer, self.characters = tokenizer, 0

    def encode_batch(self, texts: list[Any], **options: bool) -> Any:
        self.characters += sum(len(part) for text in texts for part in ([text] if isinstance(text, str) else text))
        return self.tokenizer.encode_batch(texts, **options)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.tokenizer, name)


@pytest.mark.parametrize("name", TEXTS)
def test_pieces_hold_the_whole_text_in_order(name: str) -> None:
    places = list(pieces._pieces(TEXTS[name]))
    assert "".join(TEXTS[name][start:end] for start, end in places) == TEXTS[name]
    assert all(0 < end - start <= 100 for start, end in places)


def test_pieces_begin_at_spaces_where_there_are_any() -> None:
    text = TEXTS["words"]
    assert all(text[start] == " " for start, _ in list(pieces._pieces(text))[1:])


@pytest.mark.parametrize("name", TEXTS)
def test_a_text_is_told_to_be_too_long_only_where_it_is(tokenizer: Tokenizer, name: str) -> None:
    text = TEXTS[name]
    tokens = len(tokenizer.encode(text, add_special_tokens=False))
    assert tokens_over(tokenizer, text, tokens) is None
    assert tokens_over(tokenizer, text, 10**9) is None
    over = tokens_over(tokenizer, text, 40)
    if name != "one unknown word":
        assert over is not None
        assert over > 40


def test_a_text_is_told_to_be_too_long_after_its_first_piece_if_that_is_enough(bert_tokenizer: Tokenizer) -> None:
    text = TEXTS["words"]
    [start, end] = next(pieces._pieces(text))
    tokens = len(without_limits(bert_tokenizer).encode(text[start:end], add_special_tokens=False))
    assert tokens_over(bert_tokenizer, text, tokens - 3) == tokens
    over = tokens_over(bert_tokenizer, text, tokens - 2)  # no more than the slack of one place
    assert over is not None
    assert over > tokens


@pytest.mark.parametrize("name", TEXTS)
@pytest.mark.parametrize("from_right", [False, True])
def test_a_part_and_the_rest_are_the_whole(tokenizer: Tokenizer, name: str, from_right: bool) -> None:
    text, unknown = TEXTS[name], unknown_id(tokenizer)
    whole = tokenizer.encode(text, add_special_tokens=False).ids
    part = extract(tokenizer, text, 30, unknown=unknown, from_right=from_right)
    kept = tokenizer.encode(part.text, add_special_tokens=False).ids
    assert text[part.start : part.start + len(part.text)] == part.text
    assert part.text == (text[part.start :] if from_right else text[: len(part.text)])
    assert len(kept) >= min(30, len(whole))
    if name in ("words", "lines"):  # divided at spaces, so that no token is
        assert len(kept) + part.left_out == len(whole)
        assert kept.count(unknown) + part.left_out_unknown == whole.count(unknown)
        assert kept == (whole[len(whole) - len(kept) :] if from_right else whole[: len(kept)])


@pytest.mark.parametrize("pair", [None, "alpha beta", TEXTS["words"]])
@pytest.mark.parametrize("name", ["words", "lines"])
def test_a_truncated_text_is_what_it_is_as_a_whole(
    tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch, name: str, pair: str | None
) -> None:
    def encoded() -> Any:
        return encode_text(
            tokenizer, TEXTS[name], pair, max_length=24, on_overflow="truncate", unknown=unknown_id(tokenizer)
        )

    in_pieces = encoded()
    monkeypatch.setattr(pieces, "PIECE", 10**9)
    whole = encoded()
    assert in_pieces.usage == whole.usage
    [window], [expected] = in_pieces.windows, whole.windows
    assert np.array_equal(window.input_ids, expected.input_ids)
    assert np.array_equal(window.token_type_ids, expected.token_type_ids)


@pytest.mark.parametrize("name", ["words", "lines"])
def test_a_truncated_text_s_entities_cost_what_they_do_as_a_whole(
    tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    task = EntityRecognition(tokenizer, ["O"], max_length=24)
    in_pieces = task.encode(EntitiesInput(TEXTS[name], "truncate")).usage
    monkeypatch.setattr(pieces, "PIECE", 10**9)
    assert in_pieces == task.encode(EntitiesInput(TEXTS[name], "truncate")).usage


def refused(tokenizer: Any) -> Iterator[tuple[Callable[[], object], str]]:
    text = TEXTS["words"] * 10
    entities = EntityRecognition(tokenizer, ["O"], max_length=16, max_windows=4)
    questions = QuestionAnswering(tokenizer, max_length=16, max_windows=4)
    yield lambda: questions.encode(QAInput("alpha", text)), r"take at least \d+ tokens, more than 4 windows of 16 hold"
    yield lambda: entities.encode(EntitiesInput(text)), r"needs at least \d windows and the limit is 4"
    yield lambda: entities.encode(EntitiesInput(text, "error")), r"takes at least \d+ tokens and the model reads 16"
    for mode, message in (("window", r"needs at least \d windows"), ("error", r"takes at least \d+ tokens")):
        yield (
            lambda mode=mode: encode_text(tokenizer, text, max_length=16, on_overflow=mode, max_windows=4),  # type: ignore[misc]
            message,
        )


def test_what_is_refused_is_not_tokenized_to_its_end(bert_tokenizer: Tokenizer) -> None:
    counting = Counting(without_limits(bert_tokenizer))
    for encode, message in refused(counting):
        counting.characters = 0
        with pytest.raises(InputTooLongError, match=message):
            encode()
        assert 0 < counting.characters <= 1000  # of 20,000


def test_entities_of_a_part_keep_their_places(bert_tokenizer: Tokenizer) -> None:
    text = TEXTS["words"]
    task = EntityRecognition(bert_tokenizer, ["O", "B-X"], max_length=16)
    task.settings = type(task.settings)(truncation_side="left")
    encoding = task.encode(EntitiesInput(text, "truncate"))
    [window] = encoding.windows
    logits = np.tile(np.array([0, 9], np.float32), (len(window), 1))
    entities = task.decode(encoding, [(logits,)]).entities
    assert [text[entity.start : entity.end] for entity in entities] == text.split()[-14:]
    assert encoding.usage.tokens_in == 402
    assert encoding.usage.truncated
