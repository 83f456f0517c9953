"""When a model abstains is chosen on dev sets, and written where it is read."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from models.finetune.abstaining.calibrate import Leads, choose, main
from models.predict import checkpoint_task
from models.tasks.qa import QuestionAnswering
from tests.service.conftest import write_bundle

SHORT = Leads(
    np.array([-5.0, -3.0, 1.0, 2.0, 4.0]),
    np.array([1, 1, 0.2, 1, 0]),
    np.array([False] * 4 + [True]),
    np.array([50, 50, 50, 50, 50]),
)
LONG = Leads(
    np.array([-1.0, 3.0, 5.0, 9.0]),
    np.array([1.0, 1.0, 0.0, 0.0]),
    np.array([False, False, True, True]),
    np.array([400, 800, 400, 800]),
)


def test_the_lowest_threshold_that_answers_enough_of_every_set_is_chosen() -> None:
    assert choose([SHORT, LONG], 1.0) == 3.0
    assert choose([SHORT], 1.0) == 2.0
    assert choose([SHORT], 0.5) == -3.0


def test_figures_are_those_of_the_threshold() -> None:
    assert SHORT.figures((2.0, ())) == {"n": 5.0, "f1_all": pytest.approx(84.0), "answered": 100.0, "refused": 100.0}
    assert LONG.figures((0.0, ())) == {"n": 4.0, "f1_all": 75.0, "answered": 50.0, "refused": 100.0}
    assert LONG.figures((6.0, ()))["refused"] == 50.0
    by_tokens = LONG.figures((0.0, ((400, 0.0), (800, 10.0))))
    assert (by_tokens["answered"], by_tokens["refused"]) == (100.0, 50.0)


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
    assert getattr(task, "thresholds", None) == (-1.5, ())


def test_thresholds_by_tokens_take_the_place_of_the_one(
    tiny_qa: dict[str, Path], squad_file: Path, tmp_path: Path
) -> None:
    checkpoint = shutil.copytree(tiny_qa["bert"], tmp_path / "checkpoint")
    run = ["--checkpoint", str(checkpoint), "--dev", str(squad_file)]
    assert main([*run, "--by-tokens", "8=-1000", "16=1000"]) == 0
    config = json.loads((checkpoint / "config.json").read_text())
    assert config["no_answer_threshold_by_tokens"] == [[8, -1000.0], [16, 1000.0]]
    assert config["no_answer_threshold"] == -1000.0
    task = checkpoint_task(checkpoint, "qa")
    assert isinstance(task, QuestionAnswering)
    assert task.thresholds == (-1000.0, ((8, -1000.0), (16, 1000.0)))
    assert main([*run, "--threshold", "0.5"]) == 0
    config = json.loads((checkpoint / "config.json").read_text())
    assert "no_answer_threshold_by_tokens" not in config
    assert config["no_answer_threshold"] == 0.5


def test_a_bundle_is_measured_by_its_own_thresholds_and_not_written(
    squad_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_bundle(tmp_path / "qa")
    run = ["--bundle", str(tmp_path / "qa"), "--dev", str(squad_file)]
    config = (tmp_path / "qa" / "config.json").read_text()
    assert main(run) == 0
    assert json.loads(capsys.readouterr().out)["no_answer_threshold"] == 0.0
    assert main([*run, "--by-tokens", "10=-1000"]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert printed[squad_file.name]["refused"] == 100.0
    assert (tmp_path / "qa" / "config.json").read_text() == config
    (tmp_path / "qa" / "config.json").write_text(config.replace('"no_answer_threshold": 0.0', '"no": 0'))
    assert main(run) == 2
    assert "has no no_answer_threshold; give --answered, --threshold or --by-tokens" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ([], "give one of --answered, --threshold and --by-tokens"),
        (["--answered", "0.9", "--threshold", "1"], "not both"),
        (["--by-tokens", "128"], "points must be TOKENS=LOGITS"),
        (["--bundle", "qa", "--threshold", "1"], "exactly one of --checkpoint and --bundle"),
    ],
)
def test_flags_that_do_not_go_together_are_refused(
    flags: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["--checkpoint", str(tmp_path), "--dev", str(tmp_path), *flags]) == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize("share", ["0", "1.5"])
def test_a_share_that_is_none_is_refused(share: str, tmp_path: Path) -> None:
    assert main(["--checkpoint", str(tmp_path), "--dev", str(tmp_path), "--answered", share]) == 2
