"""A masked language model read at chosen positions says there what transformers' own forward pass says."""

from pathlib import Path

import pytest
import torch
from transformers import (
    AutoTokenizer,
    BertConfig,
    BertForMaskedLM,
    DistilBertConfig,
    DistilBertForMaskedLM,
    GPT2Config,
    PreTrainedModel,
    RobertaConfig,
    RobertaForMaskedLM,
)

from models.pretrain.masked_lm import MaskedLM, check_masks, load_teacher
from models.student import StudentError
from models.teachers import ModelError

SIZES = {"vocab_size": 50, "hidden_size": 16, "num_attention_heads": 2, "intermediate_size": 32}
IDS = torch.tensor([[5, 7, 11, 13], [17, 19, 1, 1]])


def random_model(kind: str) -> PreTrainedModel:
    torch.manual_seed(0)
    model: PreTrainedModel
    if kind == "bert":
        model = BertForMaskedLM(BertConfig(**SIZES, num_hidden_layers=2, pad_token_id=1))
    elif kind == "roberta":
        model = RobertaForMaskedLM(RobertaConfig(**SIZES, num_hidden_layers=2))
    else:
        model = DistilBertForMaskedLM(DistilBertConfig(vocab_size=50, dim=16, n_heads=2, hidden_dim=32, n_layers=2))
    model.train(False)
    return model


@pytest.mark.parametrize("kind", ["bert", "roberta", "distilbert"])
def test_logits_at_chosen_positions_are_those_of_the_whole_model(kind: str) -> None:
    model = random_model(kind)
    mask = (IDS != 1).long()
    positions = torch.tensor([[False, True, False, True], [True, False, False, False]])
    with torch.no_grad():
        hidden, logits = MaskedLM(model)(IDS, mask, positions)
        expected = model(input_ids=IDS, attention_mask=mask, output_hidden_states=True)
    torch.testing.assert_close(hidden, expected.hidden_states[-1])
    torch.testing.assert_close(logits, expected.logits[positions])


def test_the_head_has_every_parameter_that_the_encoder_has_not() -> None:
    head = MaskedLM(random_model("bert")).head_parameters()
    assert sorted(tuple(parameter.shape) for parameter in head) == [(16,), (16,), (16,), (16, 16), (50,)]


def test_a_teacher_is_frozen_and_says_whether_its_head_is_its_own(tiny_teacher: Path, tmp_path: Path) -> None:
    teacher, has_head = load_teacher(str(tiny_teacher))
    assert not has_head
    assert not any(parameter.requires_grad for parameter in teacher.parameters())
    assert not teacher.training
    teacher.save_pretrained(tmp_path)
    assert load_teacher(str(tmp_path))[1]


def test_what_cannot_be_a_teacher_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="neither a directory nor a name"):
        load_teacher(str(tmp_path / "absent" / "model"))
    GPT2Config().save_pretrained(tmp_path)
    with pytest.raises(StudentError, match=r"'gpt2' is not supported; these are: bert, distilbert"):
        load_teacher(str(tmp_path))


def test_a_tokenizer_of_another_model_or_without_a_mask_is_refused(tiny_teacher: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(tiny_teacher)
    check_masks(tokenizer, BertConfig(vocab_size=len(tokenizer)), "tiny")
    with pytest.raises(ModelError, match=r"tiny: its tokenizer has \d+ tokens and its model 50; they do not fit"):
        check_masks(tokenizer, BertConfig(vocab_size=50), "tiny")
    tokenizer.mask_token = None
    with pytest.raises(ModelError, match="tiny: its tokenizer has no mask token"):
        check_masks(tokenizer, BertConfig(vocab_size=len(tokenizer)), "tiny")
