"""Teachers that differ in what they say do not teach one student; how each reads is found before the first step."""

from pathlib import Path

import pytest
from tokenizers import Tokenizer
from transformers import BertConfig, PreTrainedTokenizerFast

from models.teachers import ModelError, load_config, load_tokenizer
from models.teaching.readers import Reader, readers_of

LABELS = {0: "bad", 1: "good"}
MARKS = {"cls_token": "[CLS]", "sep_token": "[SEP]", "pad_token": "[PAD]", "unk_token": "[UNK]"}


def save(directory: Path, tokenizer: Tokenizer, **options: object) -> str:
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, **MARKS).save_pretrained(directory)
    sizes = {"vocab_size": 500, "max_position_embeddings": 64}
    BertConfig(**{**sizes, "id2label": LABELS, **options}).save_pretrained(directory)
    return str(directory)


def compare(first: str, second: str, *, whole_texts: bool = False) -> list[Reader]:
    teachers = [(name, load_config(name)) for name in (first, second)]
    tokenizer = load_tokenizer(first)
    return readers_of(teachers, tokenizer, first, {first: tokenizer}, pairs=True, whole_texts=whole_texts)


def test_teachers_may_differ_in_depth_and_length_and_in_where_their_tokenizers_cut(
    bert_tokenizer: Tokenizer, tmp_path: Path
) -> None:
    first = save(tmp_path / "first", bert_tokenizer)
    bert_tokenizer.no_truncation()
    bert_tokenizer.no_padding()
    second = save(tmp_path / "second", bert_tokenizer, num_hidden_layers=2, max_position_embeddings=32)
    assert [(reader.ids, reader.difference) for reader in compare(first, second)] == [(None, ""), (None, "")]


@pytest.mark.parametrize(
    "options", [{"id2label": {0: "good", 1: "bad"}}, {"problem_type": "multi_label_classification"}]
)
def test_teachers_of_other_labels_are_refused_by_name(
    options: dict[str, object], bert_tokenizer: Tokenizer, tmp_path: Path
) -> None:
    first, second = save(tmp_path / "first", bert_tokenizer), save(tmp_path / "second", bert_tokenizer, **options)
    with pytest.raises(ModelError, match=r"second and .*first cannot teach one student: their labels differ"):
        compare(first, second)


def test_one_label_a_text_need_not_be_said(bert_tokenizer: Tokenizer, tmp_path: Path) -> None:
    said = save(tmp_path / "first", bert_tokenizer, problem_type="single_label_classification")
    assert len(compare(said, save(tmp_path / "second", bert_tokenizer))) == 2


def test_a_tokenizer_that_does_not_map_is_refused_or_reads_whole_texts(
    bert_tokenizer: Tokenizer, roberta_tokenizer: Tokenizer, tmp_path: Path
) -> None:
    first, second = save(tmp_path / "first", bert_tokenizer), save(tmp_path / "second", roberta_tokenizer)
    with pytest.raises(ModelError, match=r"their tokenizer differs \(the token '.+' has no counterpart\)"):
        compare(first, second)
    readers = compare(first, second, whole_texts=True)
    assert readers[0].difference == ""
    assert "has no counterpart" in readers[1].difference


def test_a_teacher_s_tokenizer_has_no_more_tokens_than_the_teacher(bert_tokenizer: Tokenizer, tmp_path: Path) -> None:
    first, second = save(tmp_path / "first", bert_tokenizer), save(tmp_path / "second", bert_tokenizer, vocab_size=9)
    with pytest.raises(ModelError, match=r"second: its tokenizer has \d+ tokens and its model 9; they do not fit"):
        compare(first, second)
