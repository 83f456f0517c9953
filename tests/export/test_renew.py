"""A finished bundle whose figures and card are written anew."""

import json
import shutil
from pathlib import Path

import pytest

from export.renew import RenewOptions, main, renew
from models.predict import load_bundle_run
from models.tasks.answers import GoldenAnswer
from models.tasks.base import TaskName, answerer
from models.tasks.bundle import Bundle, golden_drift, load_bundle


@pytest.fixture
def bundle(bundles: dict[TaskName, Bundle], tmp_path: Path) -> Path:
    """A bundle as an older export wrote it: with a card and figures that lack something."""
    path = Path(shutil.copytree(bundles["qa"].path, tmp_path / "qa"))
    manifest = json.loads((path / "manifest.json").read_text())
    manifest["metrics"]["student_int8"] = {"f1": manifest["metrics"]["student_int8"]["f1"]}
    (path / "manifest.json").write_text(json.dumps(manifest))
    return path


def test_figures_are_measured_anew_and_all_else_stays(
    bundles: dict[TaskName, Bundle], bundle: Path, squad_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["--bundle", str(bundle), "--dev", str(squad_file)]) == 0
    before, after = bundles["qa"].manifest, load_bundle(bundle).manifest  # which checks every checksum
    assert before is not None
    assert after is not None
    assert after.metrics == before.metrics
    assert after.model_copy(update={"files": ()}) == before.model_copy(update={"files": ()})
    assert json.loads(capsys.readouterr().out) == after.metrics.student_int8
    for name in ("onnx/model_quantized.onnx", "config.json", "tokenizer.json"):
        assert (bundle / name).read_bytes() == (bundles["qa"].path / name).read_bytes()
    assert "expected calibration error of `score`" in (bundle / "README.md").read_text()


def test_without_a_dev_set_the_card_alone_is_written(bundle: Path) -> None:
    manifest = json.loads((bundle / "manifest.json").read_text())
    manifest["student"]["training"] = {
        "command": "train",
        "seed": 0,
        "seconds": 1.0,
        "source": "own-teacher",
        "teachers": [
            {"name": "own-teacher", "architecture": "MPNet", "layers": 12, "hidden_size": 768, "source": "mpnet-base"}
        ],
    }
    (bundle / "manifest.json").write_text(json.dumps(manifest))
    assert main(["--bundle", str(bundle)]) == 0
    after = load_bundle(bundle).manifest
    assert after is not None
    assert after.metrics.student_int8 == manifest["metrics"]["student_int8"]
    line = "distilled from `own-teacher` (which began from mpnet-base), 12 layers of 768."
    assert line in (bundle / "README.md").read_text()


def test_other_data_and_directories_without_a_manifest_are_refused(
    bundle: Path, squad_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = tmp_path / "other.json"
    other.write_text(squad_file.read_text() + "\n")
    assert main(["--bundle", str(bundle), "--dev", str(other)]) == 2
    assert "is not the tiny_squad.json that the manifest's figures are of; give that file" in capsys.readouterr().err
    (bundle / "manifest.json").unlink()
    assert main(["--bundle", str(bundle)]) == 2
    assert "has no manifest.json; only a bundle that halfdepth export wrote can be renewed" in capsys.readouterr().err


def test_what_an_operator_says_goes_neither_into_figures_nor_into_the_manifest(
    bundle: Path, squad_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = (bundle / "manifest.json").read_bytes()
    (bundle / "halfdepth.json").write_text('{"no_answer_threshold": -1000}')
    assert main(["--bundle", str(bundle), "--dev", str(squad_file), "--no-answer-threshold", "1000"]) == 2
    assert "halfdepth.json changes what is measured; move it away" in capsys.readouterr().err
    assert (bundle / "manifest.json").read_bytes() == before


def test_a_card_that_was_changed_by_hand_is_not_overwritten(bundle: Path) -> None:
    (bundle / "README.md").write_text("by hand")
    assert main(["--bundle", str(bundle)]) == 2
    assert (bundle / "README.md").read_text() == "by hand"


def test_new_thresholds_bring_figures_and_golden_answers_of_their_own(
    bundle: Path, squad_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["--bundle", str(bundle), "--no-answer-by-tokens", "4=-1000", "8=-900"]
    assert main(arguments) == 2
    assert "give --dev too" in capsys.readouterr().err
    before = load_bundle(bundle)
    assert main([*arguments, "--dev", str(squad_file)]) == 0
    after = load_bundle(bundle)
    assert after.config["no_answer_threshold_by_tokens"] == [[4, -1000.0], [8, -900.0]]
    assert after.config["no_answer_threshold"] == -1000.0
    assert after.revision != before.revision
    assert after.manifest is not None
    assert after.manifest.metrics.student_int8 is not None
    assert after.manifest.metrics.student_int8["abstaining_recall"] == 100.0
    assert all(golden.score == 0.0 for golden in after.manifest.golden if isinstance(golden, GoldenAnswer))
    run, task = load_bundle_run(bundle, "qa")
    assert golden_drift(after, answerer(task, run)) == pytest.approx(0.0, abs=1e-6)


def test_a_threshold_is_refused_for_another_task(
    bundles: dict[TaskName, Bundle], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = Path(shutil.copytree(bundles["classify"].path, tmp_path / "classify"))
    dev = bundles["classify"].path.parent / "labels.tsv"
    assert main(["--bundle", str(path), "--dev", str(dev), "--no-answer-threshold", "0"]) == 2
    assert "a model for classify has no no_answer_threshold" in capsys.readouterr().err


def test_a_measurement_that_is_broken_off_leaves_the_bundle_as_it_was(
    bundle: Path, squad_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> None:
        raise KeyboardInterrupt

    before = {path: path.read_bytes() for path in bundle.rglob("*") if path.is_file()}
    monkeypatch.setattr("export.renew.measure", broken)
    with pytest.raises(KeyboardInterrupt):
        renew(RenewOptions(bundle=bundle, dev=squad_file, no_answer_threshold=-9.0))
    assert {path: path.read_bytes() for path in bundle.rglob("*") if path.is_file()} == before
