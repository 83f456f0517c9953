import json
from pathlib import Path

import pytest

from models.tasks.bundle import BundleError
from service import loading
from service.loading import load_engine
from service.settings import Settings
from tests.service.conftest import write_bundle


def test_every_bundle_of_the_directory_is_loaded(settings: Settings) -> None:
    engine = load_engine(settings)
    assert list(engine.models) == ["qa"]
    assert engine.threads == 1


def test_auto_takes_the_share_of_the_cpu(bundles: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loading, "cpu_share", lambda: 2)
    assert load_engine(Settings(bundles=bundles)).threads == 2


def test_files_and_hidden_directories_are_no_bundles(tmp_path: Path) -> None:
    write_bundle(tmp_path / "qa")
    (tmp_path / ".cache").mkdir()
    (tmp_path / "README.md").write_text("bundles")
    assert list(load_engine(Settings(bundles=tmp_path)).models) == ["qa"]


def test_a_directory_that_is_missing_or_empty_is_told(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="HALFDEPTH_BUNDLES"):
        load_engine(Settings(bundles=tmp_path))
    with pytest.raises(BundleError, match="HALFDEPTH_BUNDLES"):
        load_engine(Settings(bundles=tmp_path / "missing"))


def test_two_bundles_of_one_task_are_refused(tmp_path: Path) -> None:
    write_bundle(tmp_path / "first")
    write_bundle(tmp_path / "second")
    with pytest.raises(BundleError, match="both serve qa"):
        load_engine(Settings(bundles=tmp_path))


def test_a_task_that_is_not_served_yet_is_refused(tmp_path: Path) -> None:
    write_bundle(tmp_path / "classify")
    config = tmp_path / "classify" / "config.json"
    config.write_text(json.dumps({"architectures": ["BertForSequenceClassification"]}))
    with pytest.raises(BundleError, match="classify, which this version does not serve"):
        load_engine(Settings(bundles=tmp_path))
