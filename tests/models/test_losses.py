"""Each loss against a value computed by hand."""

import math

import pytest
import torch

from models.losses import (
    UNLABELLED,
    direction_loss,
    embedding_loss,
    hidden_state_loss,
    label_loss,
    masked_mean,
    multi_label_loss,
    relation_loss,
    soft_target_loss,
    span_loss,
    token_loss,
)

EVERYTHING = torch.ones(1, 1, dtype=torch.bool)


def test_span_loss_is_the_mean_cross_entropy_of_start_and_end() -> None:
    start_logits = torch.tensor([[math.log(3.0), 0.0]])  # p = 3/4, 1/4
    end_logits = torch.tensor([[0.0, 0.0]])
    loss = span_loss(start_logits, end_logits, torch.tensor([0]), torch.tensor([1]))
    assert loss.item() == pytest.approx((math.log(4 / 3) + math.log(2)) / 2)


def test_soft_target_loss_is_the_divergence_at_the_temperature_times_its_square() -> None:
    teacher = torch.tensor([[[2 * math.log(3.0), 0.0]]])  # at T = 2: 3/4, 1/4
    student = torch.tensor([[[0.0, 0.0]]])  # 1/2, 1/2
    by_hand = 4 * (0.75 * math.log(0.75 / 0.5) + 0.25 * math.log(0.25 / 0.5))
    assert soft_target_loss(student, teacher, EVERYTHING, temperature=2.0).item() == pytest.approx(by_hand)


def test_soft_target_loss_averages_over_kept_positions_alone() -> None:
    teacher = torch.tensor([[[math.log(3.0), 0.0], [5.0, -5.0]]])
    student = torch.zeros(1, 2, 2)
    mask = torch.tensor([[True, False]])
    by_hand = 0.75 * math.log(1.5) + 0.25 * math.log(0.5)
    assert soft_target_loss(student, teacher, mask, temperature=1.0).item() == pytest.approx(by_hand)


def test_soft_targets_of_many_positions_have_the_value_and_the_gradient_of_the_plain_formula(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("models.losses.FEW", 3 * 7)  # three rows at a time, and one that is left over
    torch.manual_seed(0)
    student = torch.randn(10, 7, dtype=torch.float64, requires_grad=True)
    teacher = torch.randn(10, 7, dtype=torch.float64)
    given = soft_target_loss(student, teacher, temperature=3.0)
    (gradient,) = torch.autograd.grad(2 * given, student)
    told, guessed = (torch.log_softmax(logits / 3.0, dim=-1) for logits in (teacher, student))
    plain = 9.0 * torch.nn.functional.kl_div(guessed, told, reduction="batchmean", log_target=True)
    (expected,) = torch.autograd.grad(2 * plain, student)
    torch.testing.assert_close(given, plain)
    torch.testing.assert_close(gradient, expected)


def test_soft_targets_of_padded_classes_are_no_nan() -> None:
    padded = torch.tensor([[[1.0, -1e4]]])
    assert soft_target_loss(padded, padded, EVERYTHING, temperature=2.0).item() == 0.0


@pytest.mark.parametrize("temperature", [0.0, -1.0])
def test_a_temperature_that_is_not_positive_is_refused(temperature: float) -> None:
    with pytest.raises(ValueError, match="temperature must be above 0"):
        soft_target_loss(torch.zeros(1, 1, 2), torch.zeros(1, 1, 2), EVERYTHING, temperature=temperature)


def test_hidden_state_loss_is_the_squared_error_of_kept_positions() -> None:
    student = torch.tensor([[[1.0, 2.0], [9.0, 9.0]]])
    teacher = torch.tensor([[[0.0, 4.0], [0.0, 0.0]]])
    assert hidden_state_loss(student, teacher, torch.tensor([[True, False]])).item() == pytest.approx((1 + 4) / 2)


def test_relation_loss_is_the_divergence_of_scaled_dot_products() -> None:
    # One head of width 4: products over √4. Teacher's rows: (4, 0)/2 and (0, 4)/2. Student's: all 0.
    teacher = torch.tensor([[[2.0, 0.0, 0.0, 0.0], [0.0, 2.0, 0.0, 0.0]]])
    student = torch.zeros(1, 2, 4)
    p = math.e**2 / (math.e**2 + 1)
    by_hand = p * math.log(2 * p) + (1 - p) * math.log(2 * (1 - p))
    mask = torch.ones(1, 2, dtype=torch.bool)
    assert relation_loss(student, teacher, mask, heads=1).item() == pytest.approx(by_hand)


def test_relations_do_not_see_padding() -> None:
    generator = torch.Generator().manual_seed(0)
    student, teacher = torch.randn(2, 1, 5, 8, generator=generator)
    mask = torch.tensor([[True, True, True, False, False]])
    whole = relation_loss(student, teacher, mask, heads=2)
    cut = relation_loss(student[:, :3], teacher[:, :3], mask[:, :3], heads=2)
    assert whole.item() == pytest.approx(cut.item(), abs=1e-6)


def test_relations_of_different_widths_compare() -> None:
    student, teacher = torch.zeros(1, 3, 4), torch.zeros(1, 3, 8)
    assert relation_loss(student, teacher, torch.ones(1, 3, dtype=torch.bool), heads=2).item() == pytest.approx(0.0)


def test_a_width_that_does_not_split_into_heads_is_refused() -> None:
    with pytest.raises(ValueError, match="3 heads"):
        relation_loss(torch.zeros(1, 2, 4), torch.zeros(1, 2, 4), torch.ones(1, 2, dtype=torch.bool), heads=3)


def test_a_mask_that_keeps_nothing_is_refused() -> None:
    nothing = torch.zeros(1, 2, dtype=torch.bool)
    states = torch.zeros(1, 2, 4)
    with pytest.raises(ValueError, match="keeps no position"):
        soft_target_loss(states, states, nothing, temperature=1.0)
    with pytest.raises(ValueError, match="keeps no position"):
        hidden_state_loss(states, states, nothing)
    with pytest.raises(ValueError, match="keeps no position"):
        relation_loss(states, states, nothing, heads=2)


def test_rows_without_a_label_count_as_zero_in_the_mean() -> None:
    logits = torch.tensor([[0.0, math.log(3.0)], [5.0, -5.0]])
    assert label_loss(logits, torch.tensor([1, UNLABELLED])).item() == pytest.approx(-math.log(3 / 4) / 2)
    assert label_loss(logits, torch.tensor([UNLABELLED, UNLABELLED])).item() == 0.0


def test_each_label_is_a_question_of_its_own() -> None:
    logits = torch.tensor([[0.0, math.log(3.0)], [9.0, 9.0]])
    labels = torch.tensor([[1, 0], [UNLABELLED, UNLABELLED]])
    expected = (math.log(2) + math.log(4)) / 4
    assert multi_label_loss(logits, labels).item() == pytest.approx(expected)


def test_embeddings_are_compared_by_their_angle_alone() -> None:
    student, teacher = torch.tensor([[3.0, 0.0], [1.0, 1.0]]), torch.tensor([[0.5, 0.0], [2.0, 0.0]])
    assert embedding_loss(student, teacher).item() == pytest.approx((0 + 1 - 1 / math.sqrt(2)) / 2)


def test_padding_is_left_out_of_the_mean() -> None:
    states = torch.tensor([[[1.0, 2.0], [3.0, 4.0], [9.0, 9.0]]])
    assert masked_mean(states, torch.tensor([[1, 1, 0]])).tolist() == [[2.0, 3.0]]


def test_token_loss_is_the_mean_cross_entropy_of_the_masked_tokens() -> None:
    logits = torch.tensor([[math.log(3.0), 0.0], [0.0, 0.0]])  # p = 3/4, 1/4; 1/2, 1/2
    by_hand = (math.log(4 / 3) + math.log(2)) / 2
    assert token_loss(logits, torch.tensor([0, 1])).item() == pytest.approx(by_hand)
    with pytest.raises(ValueError, match="no position is masked"):
        token_loss(torch.zeros(0, 2), torch.zeros(0, dtype=torch.int64))


def test_direction_loss_is_one_minus_the_cosine_of_kept_positions() -> None:
    student = torch.tensor([[[3.0, 4.0], [1.0, 0.0], [9.0, 9.0]]])
    teacher = torch.tensor([[[4.0, 3.0], [0.0, 2.0], [0.0, 1.0]]])
    mask = torch.tensor([[True, True, False]])
    assert direction_loss(student, teacher, mask).item() == pytest.approx((1 - 24 / 25 + 1) / 2)
    with pytest.raises(ValueError, match="keeps no position"):
        direction_loss(student, teacher, torch.zeros_like(mask))
