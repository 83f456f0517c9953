"""The losses of a masked batch: each alone, switched off, and shared out over a window."""

import pytest
import torch

from models.pretrain.objective import Share, TripleLoss, TripleWeights, shares_of
from tests.models.pretrain.masked_batches import pair, random_batch

ALL = TripleWeights(soft=5.0, mlm=2.0, cosine=1.0, relation=3.0)


def test_a_loss_that_counts_nothing_is_not_computed() -> None:
    student, teacher = pair()
    for name in ("soft", "mlm", "cosine", "relation"):
        losses = TripleLoss(student, teacher, TripleWeights(**{name: 1.0}))(student, random_batch(0))
        assert sorted(losses) == sorted(["accuracy", name])


def test_all_weights_zero_or_one_below_zero_are_refused() -> None:
    with pytest.raises(ValueError, match="every loss is switched off"):
        TripleWeights()
    with pytest.raises(ValueError, match="must not be negative"):
        TripleWeights(soft=1.0, mlm=-0.1)


def test_masked_tokens_are_the_only_ones_guessed() -> None:
    student, teacher = pair()
    batch = random_batch(0)
    loss = TripleLoss(student, teacher, TripleWeights(mlm=1.0))(student, batch)["mlm"]
    logits = student.model(input_ids=batch.input_ids, attention_mask=batch.attention_mask).logits
    expected = torch.nn.functional.cross_entropy(logits[batch.masked_positions], batch.labels[batch.masked_positions])
    torch.testing.assert_close(loss, expected)
    both = TripleLoss(student, teacher, TripleWeights(soft=1.0, mlm=1.0))(student, batch)["mlm"]
    torch.testing.assert_close(both, expected)  # where more positions are read, the same ones count


def test_soft_targets_are_read_at_every_real_token() -> None:
    student, teacher = pair()
    batch = random_batch(0)
    loss = TripleLoss(student, teacher, TripleWeights(soft=1.0), temperature=1.0)(student, batch)["soft"]
    given, told = (
        model.model(input_ids=batch.input_ids, attention_mask=batch.attention_mask)
        .logits[batch.token_positions]
        .log_softmax(-1)
        for model in (student, teacher)
    )
    torch.testing.assert_close(loss, torch.nn.functional.kl_div(given, told, reduction="batchmean", log_target=True))


def test_a_student_that_is_its_teacher_has_nothing_to_learn_from_it() -> None:
    _, teacher = pair()
    losses = TripleLoss(teacher, teacher, TripleWeights(soft=1.0, cosine=1.0, relation=1.0))(teacher, random_batch(0))
    assert {name: round(float(losses[name]), 5) for name in ("soft", "cosine", "relation")} == {
        "soft": 0,
        "cosine": 0,
        "relation": 0,
    }


def test_the_total_weighs_each_mean_by_its_share() -> None:
    student, teacher = pair()
    loss = TripleLoss(student, teacher, ALL)
    means = {"accuracy": torch.tensor(9.0), "mlm": torch.tensor(1.0), "soft": torch.tensor(10.0)}
    assert loss.total(means, Share(tokens=0.5, masked_tokens=0.25)).item() == pytest.approx(2 * 0.25 + 5 * 0.5 * 10)


def test_shares_are_of_the_whole_window() -> None:
    batches = [random_batch(0, (6, 4)), random_batch(1, (2,))]
    shares = shares_of(batches, tokens=24, masked_tokens=12)
    assert shares == [Share(10 / 24, 5 / 12), Share(2 / 24, 1 / 12)]


def test_no_gradient_reaches_the_teacher() -> None:
    student, teacher = pair()
    loss = TripleLoss(student, teacher, ALL)
    loss.total(loss(student, random_batch(0)), Share(1, 1)).backward()
    assert all(parameter.grad is None for parameter in teacher.parameters())
    assert all(parameter.grad is not None for parameter in student.parameters())
