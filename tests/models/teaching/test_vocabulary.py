"""A teacher reads a student's windows where their vocabularies map one to one."""

from pathlib import Path

import pytest
import torch
from transformers import AutoModelForQuestionAnswering, AutoTokenizer

from models.teaching.vocabulary import VocabularyError, id_map, one_separator, read_with
from tests.models.finetune.mpnet import save_mpnet

PAIR = "where is the lake?", "the lake is by the city."


def test_every_token_maps_to_its_counterpart_and_marks_by_their_role(tiny_teacher: Path, tmp_path: Path) -> None:
    bert = AutoTokenizer.from_pretrained(tiny_teacher)
    mpnet = AutoTokenizer.from_pretrained(save_mpnet(tiny_teacher, tmp_path / "mpnet"))
    one_separator(mpnet)
    ids = id_map(bert, mpnet)
    assert ids is not None
    assert [ids[number] for number in bert(*PAIR).input_ids] == mpnet(*PAIR).input_ids
    assert ids[bert.pad_token_id] == mpnet.pad_token_id


def test_the_same_vocabulary_needs_no_map(tiny_teacher: Path) -> None:
    assert id_map(*(AutoTokenizer.from_pretrained(tiny_teacher) for _ in range(2))) is None


def test_the_first_token_without_a_counterpart_is_named(tiny_teacher: Path, tmp_path: Path) -> None:
    bert = AutoTokenizer.from_pretrained(tiny_teacher)
    token = bert.convert_ids_to_tokens(20)
    mpnet = AutoTokenizer.from_pretrained(save_mpnet(tiny_teacher, tmp_path / "mpnet", lacking=token))
    one_separator(mpnet)
    with pytest.raises(VocabularyError, match=f"the token '{token}' has no counterpart"):
        id_map(bert, mpnet)


def test_pairs_with_two_separators_do_not_line_up_but_single_texts_do(tiny_teacher: Path, tmp_path: Path) -> None:
    bert = AutoTokenizer.from_pretrained(tiny_teacher)
    mpnet = AutoTokenizer.from_pretrained(save_mpnet(tiny_teacher, tmp_path / "mpnet"))
    with pytest.raises(VocabularyError, match="other marks around a pair of texts"):
        id_map(bert, mpnet)
    assert id_map(bert, mpnet, pairs=False) is not None


def test_a_teacher_says_of_mapped_windows_what_it_says_of_its_own(tiny_teacher: Path, tmp_path: Path) -> None:
    path = save_mpnet(tiny_teacher, tmp_path / "mpnet")
    bert, mpnet = AutoTokenizer.from_pretrained(tiny_teacher), AutoTokenizer.from_pretrained(path)
    one_separator(mpnet)
    model = AutoModelForQuestionAnswering.from_pretrained(path).eval()
    theirs, ours = (torch.tensor([tokenizer(*PAIR).input_ids]) for tokenizer in (mpnet, bert))
    with torch.no_grad():
        expected = model(input_ids=theirs).start_logits
        ids = id_map(bert, mpnet)
        assert ids is not None
        read_with(model, ids)
        padded = torch.nn.functional.pad(ours, (0, 3), value=bert.pad_token_id)
        mask = (torch.arange(padded.shape[1]) < ours.shape[1]).long()[None]
        torch.testing.assert_close(model(input_ids=ours).start_logits, expected)
        got = model(input_ids=padded, attention_mask=mask).start_logits[:, : ours.shape[1]]
    torch.testing.assert_close(got, expected)
