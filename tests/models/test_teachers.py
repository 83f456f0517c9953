"""Teachers that differ in what they read or say do not teach one student."""

from pathlib import Path

import pytest
from tokenizers import Tokenizer
from transformers import BertConfig, PreTrainedTokenizerFast

from models.teachers import ModelError, check_alike, load_config, load_tokenizer

LABELS = {0: "bad", 1: "good"}


def save(directory: Path, tokenizer: Tokenizer, **options: object) -> str:
    PreTrainedTokenizerFast(tokenizer_object=tokenizer).save_pretrained(directory)
    BertConfig(**{"id2label": LABELS, "problem_type": "single_label_classification", **options}).save_pretrained(
        directory
    )
    return str(directory)


def compare(first: str, second: str) -> list[list[int] | None]:
    """The map of ids to each teacher's; None where they are the student's own."""
    return check_alike(
        [first, second], PreTrainedTokenizerFast.from_pretrained(first), BertConfig.from_pretrained(first)
    )


def test_teachers_may_differ_in_depth_and_in_where_their_tokenizers_cut(
    bert_tokenizer: Tokenizer, tmp_path: Path
) -> None:
    first = save(tmp_path / "first", bert_tokenizer)
    bert_tokenizer.no_truncation()
    bert_tokenizer.no_padding()
    second = save(tmp_path / "second", bert_tokenizer, num_hidden_layers=2)
    assert compare(first, second) == [None, None]


@pytest.mark.parametrize(
    ("options", "differs"),
    [
        ({"id2label": {0: "good", 1: "bad"}}, "labels"),
        ({"problem_type": "multi_label_classification"}, "labels"),
        ({"max_position_embeddings": 64}, "longest input"),
    ],
)
def test_teachers_of_other_labels_or_lengths_are_refused_by_name(
    options: dict[str, object], differs: str, bert_tokenizer: Tokenizer, tmp_path: Path
) -> None:
    first, second = save(tmp_path / "first", bert_tokenizer), save(tmp_path / "second", bert_tokenizer, **options)
    with pytest.raises(ModelError, match=f"second and .*first cannot teach one student: their {differs} differs"):
        compare(first, second)


def test_teachers_of_other_tokenizers_are_refused(
    bert_tokenizer: Tokenizer, roberta_tokenizer: Tokenizer, tmp_path: Path
) -> None:
    first, second = save(tmp_path / "first", bert_tokenizer), save(tmp_path / "second", roberta_tokenizer)
    with pytest.raises(ModelError, match="their tokenizer differs"):
        compare(first, second)


def test_what_cannot_be_loaded_is_told_in_one_line_whatever_the_library_raised(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"absent/model is neither a directory nor a name on the Hugging Face Hub$"):
        load_config(str(tmp_path / "absent" / "model"))
    (tmp_path / "config.json").write_text('{"model_type": "no-such-type"}')
    for load in (load_config, load_tokenizer):
        with pytest.raises(ModelError) as caught:
            load(str(tmp_path))
        assert str(caught.value).startswith(f"{tmp_path} cannot be loaded: ")
        assert "\n" not in str(caught.value)
