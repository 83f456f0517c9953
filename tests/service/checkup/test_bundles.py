from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import onnx
import pytest

from models.tasks.bundle import FP32_MODEL, INT8_MODEL, load_bundle
from service.checkup import bundles
from service.checkup.finding import NOTHING, Finding
from service.engine.model import Model
from service.settings import Settings
from service.startup import opening
from tests.service.checkup.trees import system
from tests.service.conftest import as_int8, write_bundle


def examined(settings: Settings) -> tuple[list[Finding], list[Model]]:
    models: list[Model] = []
    groups, findings = bundles.find(settings)
    return [*findings, *bundles.check(groups, settings, 1, models)], models


def test_a_bundle_without_golden_answers_is_noted(bundles: Path) -> None:
    findings, models = examined(Settings(bundles=bundles))
    assert {finding.status for finding in findings} == {"note"}
    assert all("no golden answers" in finding.text for finding in findings)
    assert sorted(model.bundle.task for model in models) == sorted(path.name for path in bundles.iterdir())


def test_a_broken_bundle_is_told_and_the_others_are_checked(tmp_path: Path) -> None:
    write_bundle(tmp_path / "broken")
    (tmp_path / "broken" / FP32_MODEL).write_bytes(b"no graph")
    write_bundle(tmp_path / "qa")
    findings, models = examined(Settings(bundles=tmp_path))
    assert [(finding.subject, finding.status) for finding in findings] == [
        ("bundle broken", "act"),
        ("bundle qa", "note"),
    ]
    assert "broken" in findings[0].text
    assert len(models) == 1


def test_two_bundles_of_a_task_without_a_default_are_told(tmp_path: Path) -> None:
    write_bundle(tmp_path / "one")
    write_bundle(tmp_path / "two")
    findings, _ = examined(Settings(bundles=tmp_path))
    assert findings[-1].status == "act"
    assert "rename the directory of the default to qa" in findings[-1].text


def test_without_bundles_the_default_directory_is_noted_and_a_named_one_asks_for_something(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    [finding] = examined(Settings())[0]
    assert finding.status == "note"
    assert "halfdepth export" in finding.advice
    for missing in (tmp_path / "nowhere", tmp_path):
        [finding] = examined(Settings(bundles=missing))[0]
        assert finding.status == "act"
        assert str(missing) in finding.text


def test_a_name_on_the_hub_is_not_downloaded(tmp_path: Path) -> None:
    write_bundle(tmp_path / "qa")
    findings, models = examined(Settings(models=("org/name", str(tmp_path))))
    assert findings[0].status == "note"
    assert "org/name is on the Hub" in findings[0].text
    assert len(models) == 1


def test_a_model_of_the_hub_may_be_the_default_before_directories_that_have_none(tmp_path: Path) -> None:
    write_bundle(tmp_path / "one")
    write_bundle(tmp_path / "two")
    (tmp_path / "two" / "halfdepth.json").write_text('{"no_answer_threshold": 1}')
    for models, is_told in (("org/name", str(tmp_path)), False), ((str(tmp_path), "org/name"), True):
        texts = [finding.text for finding in examined(Settings(models=models))[0] if finding.status == "act"]
        assert any("rename the directory of the default to qa" in text for text in texts) is is_told


@pytest.mark.parametrize(
    ("exact_drift", "keeps_fp32", "status", "advice"),
    [
        (0.001, False, "act", "exact products would be served"),
        (0.3, True, "act", "its fp32 graph would be served"),
        (0.3, False, "act", "does not start"),
    ],
)
def test_a_bundle_that_drifts_here_tells_what_would_be_served(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    exact_drift: float,
    keeps_fp32: bool,
    status: str,
    advice: str,
) -> None:
    write_bundle(tmp_path / "qa")
    onnx.save(as_int8(tmp_path / "qa" / FP32_MODEL), tmp_path / "qa" / INT8_MODEL)
    drifts = iter([0.3, exact_drift])
    monkeypatch.setattr(opening, "drift", lambda _model: next(drifts))
    if keeps_fp32:
        files: Any = SimpleNamespace(files=[SimpleNamespace(path=FP32_MODEL)], graph=None)  # all that is read of it
        monkeypatch.setattr(bundles, "load_bundle", lambda path: replace(load_bundle(path), manifest=files))
    findings, _ = examined(Settings(bundles=tmp_path))
    assert findings[0].status == status
    assert "off by 0.300" in findings[0].text
    assert advice in findings[0].advice


def test_a_bundle_that_answers_as_recorded_is_well(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_bundle(tmp_path / "qa")
    monkeypatch.setattr(opening, "drift", lambda _model: 0.01)
    [finding] = examined(Settings(bundles=tmp_path))[0]
    assert (finding.status, finding.advice) == ("ok", NOTHING)
    assert "golden answers are off by 0.0100, and 0.05 is allowed" in finding.text
    assert finding.values["drift"] == 0.01


@pytest.mark.parametrize(
    ("available", "limit", "status", "words"),
    [
        (10**9, "max", "ok", "1.0 GB available, no limit; a process with 0 bundles loaded takes 307 MB"),
        (10**9, "400000000", "ok", "a limit of 400 MB"),
        (10**9, "350000000", "act", "a limit of 350 MB"),
        (350 * 10**6, "max", "act", "350 MB available"),
        (None, "max", "ok", "no limit"),
    ],
)
def test_memory_is_held_against_what_a_process_takes(
    tmp_path: Path, available: int | None, limit: str, status: str, words: str
) -> None:
    finding = bundles.memory(system(tmp_path, cgroup={"memory.max": limit}), available, [])
    assert finding.status == status
    assert words in finding.text
    assert ("at least 384 MB" in finding.advice) == (status == "act")


def test_memory_without_proc_is_noted(tmp_path: Path) -> None:
    assert bundles.memory(system(tmp_path, {"self/status": None}), None, []).status == "note"
