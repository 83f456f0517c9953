"""Text becomes windows once, and every window comes up once in an epoch."""

from pathlib import Path

import numpy as np
import pytest
from tokenizers import Tokenizer

from models.data import DataError
from models.pretrain.corpus import Batches, Corpus, read_corpus

LINES = ["alpha beta gamma delta", "", "Where is Zürich? By the lake.", "alpha", "beta " * 50]


@pytest.fixture
def corpus(tmp_path: Path, bert_tokenizer: Tokenizer) -> Corpus:
    path = tmp_path / "text.txt"
    path.write_text("\n".join(LINES), encoding="utf-8")
    return read_corpus([str(path)], bert_tokenizer, max_length=12, cache=tmp_path / "cache")


def test_a_long_paragraph_goes_on_in_the_next_window_and_nothing_is_lost(
    corpus: Corpus, bert_tokenizer: Tokenizer
) -> None:
    ids, mask = corpus.read(np.arange(len(corpus)), pad_token_id=0)
    assert ids.shape == mask.shape == (len(corpus), 12)
    assert corpus.lengths.tolist() == mask.sum(axis=1).tolist()
    assert corpus.tokens == mask.sum()
    beta = bert_tokenizer.token_to_id("beta")
    assert (ids == beta).sum() == 51
    assert [row[0] for row in ids.tolist()] == [bert_tokenizer.token_to_id("[CLS]")] * len(ids)
    assert all(row[length - 1] == 3 for row, length in zip(ids.tolist(), corpus.lengths, strict=True))  # [SEP]
    assert not (ids * (1 - mask)).any()


def test_windows_too_short_to_guess_anything_are_left_out(corpus: Corpus, bert_tokenizer: Tokenizer) -> None:
    ids, _ = corpus.read(np.arange(len(corpus)), pad_token_id=0)
    alone = [row for row in ids.tolist() if row[1:3] == [bert_tokenizer.token_to_id("alpha"), 3]]
    assert not alone


def test_tokens_are_counted_over_all_windows(corpus: Corpus, bert_tokenizer: Tokenizer) -> None:
    counts = corpus.counts(bert_tokenizer.get_vocab_size())
    assert counts.sum() == corpus.tokens
    assert counts[bert_tokenizer.token_to_id("beta")] == 51
    assert counts[bert_tokenizer.token_to_id("[CLS]")] == len(corpus)


def test_a_text_is_tokenized_once(corpus: Corpus, tmp_path: Path, bert_tokenizer: Tokenizer) -> None:
    files = sorted((tmp_path / "cache").rglob("*.arrow"))
    read_corpus([str(tmp_path / "text.txt")], bert_tokenizer, max_length=12, cache=tmp_path / "cache")
    assert sorted((tmp_path / "cache").rglob("*.arrow")) == files
    other = read_corpus([str(tmp_path / "text.txt")], bert_tokenizer, max_length=20, cache=tmp_path / "cache")
    assert other.lengths.max() == 20
    assert len(other) < len(corpus)


def test_an_epoch_has_every_window_once_and_the_next_another_order(corpus: Corpus) -> None:
    batches = Batches(corpus, 2, seed=3)
    epochs = [
        [batches.indices(n).tolist() for n in range(e * batches.per_epoch, (e + 1) * batches.per_epoch)] for e in (0, 1)
    ]
    for epoch in epochs:
        assert sorted(index for batch in epoch for index in batch) == list(range(len(corpus)))
    assert epochs[0] != epochs[1]
    assert batches.indices(0).tolist() == epochs[0][0]


def test_text_that_cannot_be_used_is_refused_in_words(tmp_path: Path, bert_tokenizer: Tokenizer) -> None:
    empty, latin = tmp_path / "empty.txt", tmp_path / "latin.txt"
    empty.write_text("\n \n")
    latin.write_bytes("plain\nZürich\n".encode("latin-1"))

    def read(source: str) -> Corpus:
        return read_corpus([source], bert_tokenizer, max_length=12, cache=tmp_path / "cache")

    with pytest.raises(DataError, match=r"empty\.txt hold no text"):
        read(str(empty))
    with pytest.raises(DataError, match=r"latin\.txt is not UTF-8 at byte 7 \(line 2\)"):
        read(str(latin))
    with pytest.raises(DataError, match=r"absent\.txt is not a text file"):
        read(str(tmp_path / "absent.txt"))


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.json", '{"data": []}', "is not plain text by its suffix"),
        ("a.jsonl", '{"text": "alpha beta gamma"}\n', "is not plain text by its suffix"),
        ("a.TSV", "text\tlabel\nalpha beta gamma\tx\n", "is not plain text by its suffix"),
        ("a.csv", "text,label\nalpha beta gamma,x\n", "no reader knows the suffix"),
        ("a.txt", '{"text": "alpha beta gamma"}\n', "is JSON; give plain text"),
    ],
)
def test_structured_files_are_no_text_to_learn_from(
    tmp_path: Path, bert_tokenizer: Tokenizer, name: str, content: str, message: str
) -> None:
    path = tmp_path / name
    path.write_text(content)
    with pytest.raises(DataError, match=f"{name}:? {message}"):
        read_corpus([str(path)], bert_tokenizer, max_length=12, cache=tmp_path / "cache")


def test_a_byte_order_mark_and_other_ends_of_lines_are_no_part_of_the_text(
    tmp_path: Path, bert_tokenizer: Tokenizer
) -> None:
    plain, marked = tmp_path / "plain.txt", tmp_path / "MARKED.TXT"
    plain.write_text("alpha beta gamma delta\nepsilon zeta eta theta\n")
    marked.write_bytes(b"\xef\xbb\xbfalpha beta gamma delta\repsilon zeta eta theta\r\n")
    first, second = (
        read_corpus([str(path)], bert_tokenizer, max_length=12, cache=tmp_path / "cache") for path in (plain, marked)
    )
    for one, other in zip(
        first.read(np.arange(2), pad_token_id=0), second.read(np.arange(2), pad_token_id=0), strict=True
    ):
        np.testing.assert_array_equal(one, other)
