"""A window's gradients do not depend on how it is cut, and the loop learns what it is shown."""

from pathlib import Path
from typing import Any

import pytest
import torch
from accelerate import Accelerator
from torch import Tensor

from models.pretrain.loop import evaluate, gradients, read_out, train
from models.pretrain.masked_lm import MaskedLM
from models.pretrain.masking import MaskedBatch
from models.pretrain.objective import TripleLoss, TripleWeights
from models.pretrain.options import PretrainLoop
from models.tasks.errors import DivergedError
from models.training import Stop
from tests.kills.process import SAID, Work, perform
from tests.models.pretrain import two_processes
from tests.models.pretrain.masked_batches import LENGTHS, pair, random_batch

ALL = TripleWeights(soft=5.0, mlm=2.0, cosine=1.0, relation=1.0)


class Repeated:
    """Stands where MaskedBatches would: the same batches over and over."""

    def __init__(self, *batches: MaskedBatch) -> None:
        self.all, self.batches, self.per_epoch = batches, self, len(batches)

    def __getitem__(self, number: int) -> MaskedBatch:
        return self.all[number % len(self.all)]


def gradients_of(
    batches: list[MaskedBatch], weights: TripleWeights = ALL
) -> tuple[dict[str, Tensor], dict[str, float]]:
    student, teacher = pair()
    loss, accelerator = TripleLoss(student, teacher, weights), Accelerator(cpu=True)
    sums, _, _ = gradients(accelerator, student, loss, batches, stop=Stop())
    given = {name: parameter.grad for name, parameter in student.named_parameters() if parameter.grad is not None}
    return given, read_out(accelerator, loss, sums)


def window(count: int) -> list[MaskedBatch]:
    return [random_batch(number, LENGTHS[number]) for number in range(count)]


def joined(batches: list[MaskedBatch]) -> MaskedBatch:
    """One batch of all their rows, padded to the longest."""
    longest = max(batch.labels.shape[1] for batch in batches)

    def join(name: str) -> Tensor:
        rows = [getattr(batch, name) for batch in batches]
        return torch.cat([torch.nn.functional.pad(part, (0, longest - part.shape[1])) for part in rows])

    return MaskedBatch(join("input_ids"), join("attention_mask"), join("labels"), join("masked_positions"))


def test_one_batch_and_eight_that_hold_the_same_give_the_same_gradients_and_losses() -> None:
    eight, of_eight = gradients_of(window(8))
    one, of_one = gradients_of([joined(window(8))])
    assert of_one == pytest.approx(of_eight, abs=1e-5)
    for name, gradient in one.items():
        torch.testing.assert_close(eight[name], gradient, rtol=0, atol=1e-6)


def test_two_processes_give_the_gradients_of_one_and_both_hear_that_one_is_to_stop(tmp_path: Path) -> None:
    (tmp_path / "here").mkdir()
    ended = perform(Work(two_processes.main, ["gradients.pt"], ranks=2), tmp_path / "here")
    assert ended.status == 0, (tmp_path / SAID).read_text()
    kept = torch.load(tmp_path / "here" / "gradients.pt")
    expected, _ = gradients_of(window(8))
    assert kept["tokens"] == sum(sum(lengths) for lengths in LENGTHS)
    assert kept["stopped"]
    for name, gradient in expected.items():
        torch.testing.assert_close(kept["gradients"][name], gradient, rtol=0, atol=1e-6)


def fit(out: Path, steps: int, *batches: MaskedBatch) -> tuple[MaskedLM, MaskedLM, dict[str, float]]:
    student, teacher = pair()
    loss = TripleLoss(student, teacher, ALL)
    loop = PretrainLoop(lr=3e-3, warmup=0.1, evaluate_every=1000, dev_batches=0)
    repeated: Any = Repeated(*batches)  # it stands in for MaskedBatches
    _, figures = train(
        Accelerator(cpu=True), student, loss, repeated, repeated, loop, steps=steps, out=out, identity={}
    )
    return student, teacher, figures


def test_one_batch_is_overfitted_and_the_teacher_stays_as_it_was(tmp_path: Path) -> None:
    before = {name: weight.clone() for name, weight in pair()[1].state_dict().items()}
    _, teacher, figures = fit(tmp_path, 150, random_batch(0))
    assert figures["accuracy"] == 1.0
    rows = (tmp_path / "losses.csv").read_text().splitlines()
    first, last = (float(row.split(",")[4]) for row in (rows[1], rows[-1]))
    assert last < first / 3
    assert all(torch.equal(weight, before[name]) for name, weight in teacher.state_dict().items())


def test_an_evaluation_is_the_mean_over_all_tokens_whatever_the_batches() -> None:
    student, teacher = pair()
    loss, accelerator = TripleLoss(student, teacher, ALL), Accelerator(cpu=True)
    many: object = Repeated(*window(8))
    one: object = Repeated(joined(window(8)))
    figures = evaluate(accelerator, student, loss, many)  # type: ignore[arg-type]  # it stands in for MaskedBatches
    assert figures == pytest.approx(evaluate(accelerator, student, loss, one), abs=1e-5)  # type: ignore[arg-type]  # as above
    assert figures["total"] == pytest.approx(
        5 * figures["soft"] + 2 * figures["mlm"] + figures["cosine"] + figures["relation"]
    )


def test_a_loss_that_is_no_number_ends_the_run_with_advice(tmp_path: Path) -> None:
    student, teacher = pair()
    torch.nn.init.constant_(next(student.parameters()), float("nan"))
    repeated: Any = Repeated(random_batch(0))  # as above
    loss, loop = TripleLoss(student, teacher, ALL), PretrainLoop()
    with pytest.raises(DivergedError, match=r"no longer a number.*lower --lr"):
        train(Accelerator(cpu=True), student, loss, repeated, repeated, loop, steps=1, out=tmp_path, identity={})
