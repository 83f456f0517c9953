from collections.abc import Callable
from pathlib import Path

import pytest
from onnx import ModelProto

from models.tasks.bundle import BundleError, TaskName
from service import loading
from service.loading import load_engine
from service.settings import Settings
from tests.service.conftest import tiny_classify_graph, tiny_embedding_graph, tiny_qa_graph, write_bundle


def test_every_bundle_of_the_directory_is_loaded(settings: Settings) -> None:
    engine = load_engine(settings)
    assert set(engine.models) == {"qa", "classify", "similarity"}
    assert engine.threads == 1


def test_a_bundle_s_own_graph_decides_how_its_embeddings_are_pooled(settings: Settings, tmp_path: Path) -> None:
    write_bundle(tmp_path / "theirs", "similarity", tiny_embedding_graph(pooled=False))
    for directory, output_name in ((settings.bundles, "sentence_embedding"), (tmp_path, "last_hidden_state")):
        task = load_engine(Settings(bundles=directory)).models["similarity"].task
        assert list(task.output_names) == [output_name]


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


@pytest.mark.parametrize(
    ("task", "graph"),
    [("qa", tiny_classify_graph), ("classify", tiny_embedding_graph), ("similarity", tiny_qa_graph)],
)
def test_a_bundle_whose_graph_is_another_task_s_is_refused(
    tmp_path: Path, task: TaskName, graph: Callable[[], ModelProto]
) -> None:
    write_bundle(tmp_path / "mixed", task, graph())
    with pytest.raises(BundleError, match=r"model\.onnx (lacks|has none of the) outputs"):
        load_engine(Settings(bundles=tmp_path))


def test_a_bundle_that_cannot_answer_is_refused(tmp_path: Path) -> None:
    write_bundle(tmp_path / "similarity", "similarity", tiny_embedding_graph(scale=0.0))
    with pytest.raises(BundleError, match="similarity loads but cannot answer"):
        load_engine(Settings(bundles=tmp_path))
