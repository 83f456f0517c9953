"""When a model abstains is chosen on dev sets, and written where it is read."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from models.finetune.abstaining.calibrate import Leads, choose, main
from models.predict import checkpoint_task

SHORT = Leads(np.array([-5.0, -3.0, 1.0, 2.0, 4.0]), np.array([1, 1, 0.2, 1, 0]), np.array([False] * 4 + [True]))
LONG = Leads(np.array([-1.0, 3.0, 5.0, 9.0]), np.array([1.0, 1.0, 0.0, 0.0]), np.array([False, False, True, True]))


def test_the_lowest_threshold_that_answers_enough_of_every_set_is_chosen() -> None:
    assert choose([SHORT, LONG], 1.0) == 3.0
    assert choose([SHORT], 1.0) == 2.0
    assert choose([SHORT], 0.5) == -3.0


def test_figures_are_those_of_the_threshold() -> None:
    assert SHORT.figures(2.0) == {"n": 5.0, "f1_all": pytest.approx(84.0), "answered": 100.0, "refused": 100.0}
    assert LONG.figures(0.0) == {"n": 4.0, "f1_all": 75.0, "answered": 50.0, "refused": 100.0}
    assert LONG.figures(6.0)["refused"] == 50.0


def test_the_threshold_is_written_into_the_configuration(
    tiny_qa: dict[str, Path], squad_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    checkpoint = shutil.copytree(tiny_qa["distilbert"], tmp_path / "checkpoint")
    before = json.loads((checkpoint / "config.json").read_text())
    run = ["--checkpoint", str(checkpoint), "--dev", str(squad_file)]
    assert main([*run, "--threshold", "-1.5"]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert printed["no_answer_threshold"] == -1.5
    assert printed[squad_file.name].keys() >= {"n", "f1_all", "refused"}
    config = json.loads((checkpoint / "config.json").read_text())
    assert config == before | {"no_answer_threshold": -1.5}
    task = checkpoint_task(checkpoint, "qa")
    assert getattr(task, "no_answer_threshold", None) == -1.5


@pytest.mark.parametrize("share", ["0", "1.5"])
def test_a_share_that_is_none_is_refused(share: str, tmp_path: Path) -> None:
    assert main(["--checkpoint", str(tmp_path), "--dev", str(tmp_path), "--answered", share]) == 2
