"""The figures that keep a bad bundle from being written."""

import re
from pathlib import Path

import numpy as np
import pytest

from export.verify import (
    VerifyError,
    check,
    check_agreement,
    max_logit_difference,
    padded_run,
    parity_inputs,
    relative_difference,
)
from models.devset import DevOptions
from models.finetune.qa import QADev
from models.predict import checkpoint_task
from models.tasks.base import Features, Outputs, Run, TaskName
from models.tasks.build import SPECS
from models.tasks.session import onnx_run, open_graph
from tests.export.conftest import KINDS


def constant(*logits: float) -> Run:
    def run(features: Features) -> Outputs:
        values = np.resize(np.array(logits, dtype=np.float32), len(features))
        return values, values

    return run


WINDOWS = [Features(np.zeros(length, np.int64), np.zeros(length, np.int64)) for length in (2, 5)]


def test_bound_itself_passes_and_the_next_number_does_not() -> None:
    check("the loss", 0.5, 0.5)
    with pytest.raises(VerifyError):
        check("the loss", np.nextafter(0.5, 1), 0.5)


@pytest.mark.parametrize("value", [0.75, float("nan")])
def test_figure_out_of_its_bound_is_named_with_its_excess(value: float) -> None:
    with pytest.raises(VerifyError, match=r"^the loss is .*, above the limit of 0\.5 \(by .*\)$"):
        check("the loss", value, 0.5)


def test_largest_difference_is_over_all_logits_of_all_inputs() -> None:
    assert max_logit_difference(constant(1, 2, 3), constant(1, 2, 1), WINDOWS) == 2.0


def test_logit_that_is_not_a_number_is_not_lost() -> None:
    assert np.isnan(max_logit_difference(constant(1, 2, float("nan")), constant(1, 2, 3), WINDOWS))


def test_inputs_are_real_windows_from_the_shortest_to_the_longest(tiny_qa: dict[str, Path], squad_file: Path) -> None:
    task, questions = checkpoint_task(tiny_qa["bert"], "qa"), QADev(squad_file, DevOptions()).inputs
    lengths = [len(window) for window in parity_inputs(task, list(questions) * 30, seed=0)]
    assert len(lengths) == 200
    assert lengths == sorted(lengths)
    alone = [len(window) for window in parity_inputs(task, questions, seed=0)]
    assert len(alone) == len(questions)
    assert (lengths[0], lengths[-1]) == (alone[0], alone[-1])


def test_relative_difference_is_the_mean_as_a_share_of_the_largest_logit() -> None:
    # Two windows of 2 and 5 tokens, each logit twice: differences 0, 1, 2 over and over, the largest logit 4.
    assert relative_difference(constant(4, 2, 1), constant(4, 3, 3), WINDOWS) == pytest.approx(10 / 14 / 4)


@pytest.mark.parametrize("task", ["qa", "classify", "similarity"])
@pytest.mark.parametrize("kind", KINDS)
def test_a_padded_window_gives_the_outputs_of_its_own_tokens(
    graphs: dict[tuple[str, TaskName], tuple[Path, Path]], kind: str, task: TaskName
) -> None:
    session = open_graph(graphs[kind, task][0], threads=1, exact_products=True)
    names = [output.name for output in session.get_outputs()]
    windows = [Features(np.arange(5, 5 + length), np.zeros(length, np.int64)) for length in (4, 11)]
    padded = padded_run(session, names, SPECS[task].token_outputs, neighbour=windows[-1])
    assert max_logit_difference(padded, onnx_run(session, names), windows) <= 1e-5


def test_agreement_below_its_bound_is_told_with_what_to_do() -> None:
    check_agreement([1.0] * 495 + [0.0] * 5, 99.0)
    line = (
        "int8 keeps 98.80% of float's answers to 500 inputs, less than 99%; leave products in float with --keep-float, "
        "all of them with --no-int8, or lower --min-agreement"
    )
    with pytest.raises(VerifyError, match=re.escape(line)):
        check_agreement([1.0] * 494 + [0.0] * 6, 99.0)


def test_one_near_tie_decides_nothing_among_few_inputs() -> None:
    check_agreement([1.0] * 11 + [0.0], 99.0)
    with pytest.raises(VerifyError):
        check_agreement([1.0] * 10 + [0.0] * 2, 99.0)
    with pytest.raises(VerifyError):
        check_agreement([0.7, 0.7, 0.7], 99.0)


def test_agreement_that_is_not_a_number_is_refused() -> None:
    with pytest.raises(VerifyError):
        check_agreement([float("nan")] * 3, 99.0)
