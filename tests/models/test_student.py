"""A student out of each kind of teacher: with every layer kept it says what the teacher says."""

import pytest
import torch
from transformers import (
    BertConfig,
    BertForMaskedLM,
    BertForQuestionAnswering,
    DistilBertConfig,
    DistilBertForMaskedLM,
    DistilBertForQuestionAnswering,
    GPT2Config,
    PretrainedConfig,
    PreTrainedModel,
    RobertaConfig,
    RobertaForMaskedLM,
    RobertaForQuestionAnswering,
)

from models.student import StudentError, make_student, parse_layers, spread_layers, student_config

SIZES = {"vocab_size": 50, "hidden_size": 16, "num_attention_heads": 2, "intermediate_size": 32}
IDS = torch.tensor([[5, 7, 11, 13, 17, 19]])


def random_teacher(kind: str) -> PreTrainedModel:
    torch.manual_seed(0)
    teacher: PreTrainedModel
    if kind == "bert":
        teacher = BertForQuestionAnswering(BertConfig(**SIZES, num_hidden_layers=4, max_position_embeddings=32))
    elif kind == "roberta":  # DistilBERT's LayerNorm knows one epsilon, BERT's
        sizes = SIZES | {"num_hidden_layers": 4, "max_position_embeddings": 34, "type_vocab_size": 1}
        teacher = RobertaForQuestionAnswering(RobertaConfig(**sizes, layer_norm_eps=1e-12))
    else:
        sizes = {"vocab_size": 50, "dim": 16, "n_heads": 2, "hidden_dim": 32, "n_layers": 4}
        teacher = DistilBertForQuestionAnswering(DistilBertConfig(**sizes, max_position_embeddings=32))
    teacher.train(False)
    return teacher


@pytest.mark.parametrize("kind", ["bert", "roberta", "distilbert"])
def test_a_student_with_every_layer_gives_the_teachers_logits(kind: str) -> None:
    teacher = random_teacher(kind)
    student = make_student(teacher, DistilBertForQuestionAnswering, range(4)).eval()
    with torch.no_grad():
        expected, given = teacher(input_ids=IDS), student(input_ids=IDS)
    torch.testing.assert_close(given.start_logits, expected.start_logits)
    torch.testing.assert_close(given.end_logits, expected.end_logits)


def test_a_half_depth_student_has_the_chosen_layers_in_order() -> None:
    teacher = random_teacher("bert")
    student = make_student(teacher, DistilBertForQuestionAnswering, (0, 3))
    assert student.config.n_layers == 2
    kept = student.state_dict()["distilbert.transformer.layer.1.ffn.lin1.weight"]
    assert torch.equal(kept, teacher.state_dict()["bert.encoder.layer.3.intermediate.dense.weight"])


def test_training_a_student_leaves_its_teacher_alone() -> None:
    teacher = random_teacher("bert")
    student = make_student(teacher, DistilBertForQuestionAnswering, (0, 2))
    before = {name: weight.clone() for name, weight in teacher.state_dict().items()}
    with torch.no_grad():
        for parameter in student.parameters():
            parameter.add_(1.0)
    assert all(torch.equal(weight, before[name]) for name, weight in teacher.state_dict().items())


def test_a_student_of_roberta_keeps_its_padding_and_usable_positions() -> None:
    config = student_config(random_teacher("roberta").config, (0, 2))
    assert config.max_position_embeddings == 32
    assert config.pad_token_id == 1


@pytest.mark.parametrize(
    ("text", "depth", "layers"),
    [
        ("3", 6, (0, 2, 4)),
        ("6", 12, (0, 2, 4, 6, 8, 10)),
        ("0,2,5", 6, (0, 2, 5)),
        ("1,", 4, None),
        ("6", 6, tuple(range(6))),
    ],
)
def test_layers_are_a_count_or_a_list(text: str, depth: int, layers: tuple[int, ...] | None) -> None:
    if layers is None:
        with pytest.raises(StudentError, match="a count such as 3 or a list"):
            parse_layers(text, depth)
    else:
        assert parse_layers(text, depth) == layers


@pytest.mark.parametrize("text", ["0", "7", "2,1", "0,6", "1,1", "-1,2", "three", ""])
def test_layers_that_the_teacher_lacks_are_refused(text: str) -> None:
    with pytest.raises(StudentError, match=r"layers|cannot be cut"):
        parse_layers(text, 6)


def test_half_the_depth_is_every_other_layer() -> None:
    assert spread_layers(6, 12) == (0, 2, 4, 6, 8, 10)


def test_an_unsupported_teacher_is_refused_with_what_is_supported() -> None:
    config: PretrainedConfig = GPT2Config()
    with pytest.raises(StudentError, match=r"'gpt2' is not supported; these are: bert, distilbert, roberta"):
        student_config(config, (0,))


@pytest.mark.parametrize("kind", ["bert", "roberta", "distilbert"])
def test_a_masked_language_model_hands_its_head_down_too(kind: str) -> None:
    torch.manual_seed(0)
    teacher: PreTrainedModel
    if kind == "bert":
        teacher = BertForMaskedLM(BertConfig(**SIZES, num_hidden_layers=4, max_position_embeddings=32))
    elif kind == "roberta":
        sizes = SIZES | {"num_hidden_layers": 4, "max_position_embeddings": 34, "type_vocab_size": 1}
        teacher = RobertaForMaskedLM(RobertaConfig(**sizes, layer_norm_eps=1e-12))
    else:
        sizes = {"vocab_size": 50, "dim": 16, "n_heads": 2, "hidden_dim": 32, "n_layers": 4}
        teacher = DistilBertForMaskedLM(DistilBertConfig(**sizes, max_position_embeddings=32))
    for name, parameter in teacher.named_parameters():  # a fresh head has biases of 0, which would prove nothing
        if name.endswith("bias"):
            torch.nn.init.normal_(parameter)
    teacher.train(False)
    student = make_student(teacher, DistilBertForMaskedLM, range(4)).eval()
    with torch.no_grad():
        torch.testing.assert_close(student(input_ids=IDS).logits, teacher(input_ids=IDS).logits)
