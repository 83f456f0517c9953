import logging
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import onnx
import pytest
from onnx import ModelProto

from models.tasks.base import Features, Outputs, TaskName
from models.tasks.bundle import FP32_MODEL, INT8_MODEL, Bundle, load_bundle
from models.tasks.directory.files import BundleError
from models.tasks.session import OnnxSession, open_graph
from service.engine.costs import CostModel
from service.settings import Settings
from service.startup import loading, opening, tuning
from service.startup.loading import load_engine
from tests.service.conftest import (
    CONFIGS,
    as_int8,
    tiny_classify_graph,
    tiny_embedding_graph,
    tiny_qa_graph,
    write_bundle,
)


def test_every_bundle_of_the_directory_is_loaded(settings: Settings) -> None:
    engine = load_engine(settings)
    assert [model.bundle.task for model in engine.models] == sorted(CONFIGS)
    assert engine.threads == 1


def test_a_bundle_s_own_graph_decides_how_its_embeddings_are_pooled(settings: Settings, tmp_path: Path) -> None:
    write_bundle(tmp_path / "theirs", "similarity", tiny_embedding_graph(pooled=False))
    (tmp_path / "theirs" / "halfdepth.json").write_text('{"pooling": "mean"}')
    for directory, output_name in ((settings.bundles, "sentence_embedding"), (tmp_path, "last_hidden_state")):
        task = load_engine(Settings(bundles=directory)).model("similarity").task
        assert list(task.output_names) == [output_name]


def test_auto_takes_the_share_of_the_cpu_and_measures(bundles: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(opening, "cpu_share", lambda: 2)
    monkeypatch.setattr(tuning, "wide_share", lambda *_what, **_how: 0.5)
    monkeypatch.setattr(tuning, "measure_costs", lambda _session, _lengths: CostModel(7.0, 7.0))
    engine = load_engine(Settings(bundles=bundles))
    assert (engine.threads, engine.queue.cores) == (2, 2)
    assert {model.costs.fixed_ms for model in engine.models} == {7.0}
    lone = [model.lone for model in engine.models]
    assert {(each.learns, each.threads, each.wide_share) for each in lone} == {(True, 2, 0.5)}


def test_the_graph_that_is_served_is_named_in_the_log(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    write_bundle(tmp_path / "qa")
    (tmp_path / "qa" / FP32_MODEL).rename(tmp_path / "qa" / "onnx" / "model_O1.onnx")
    with caplog.at_level(logging.INFO, logger=opening.__name__):
        engine = load_engine(Settings(bundles=tmp_path, threads=1))
    assert engine.models[0].bundle.file == "onnx/model_O1.onnx"
    [record] = [record for record in caplog.records if record.message == "loaded"]
    assert vars(record)["data"]["file"] == "onnx/model_O1.onnx"


def test_a_fixed_number_of_threads_is_not_measured(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(tuning, "most_threads")
    monkeypatch.delattr(tuning, "measure_costs")
    assert load_engine(settings).model("qa").costs == CostModel()


def test_a_graph_that_threads_change_runs_on_one(
    bundles: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(tuning, "same_outputs", lambda _session, _lengths: False)
    engine = load_engine(Settings(bundles=bundles, threads=2))
    assert {model.lone.threads for model in engine.models} == {1}
    assert "changes its outputs" in caplog.text


@pytest.mark.parametrize(("fp32", "precision"), [(True, "fp32"), (False, None)])
def test_an_int8_graph_that_drifts_here_falls_back_to_fp32_or_is_refused(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    fp32: bool,
    precision: str | None,
) -> None:
    write_bundle(tmp_path / "qa")
    int8 = tmp_path / "qa" / INT8_MODEL
    onnx.save(as_int8(tmp_path / "qa" / FP32_MODEL), int8)
    bundle = load_bundle(tmp_path / "qa")
    files = [SimpleNamespace(path=INT8_MODEL), *([SimpleNamespace(path=FP32_MODEL)] if fp32 else [])]
    manifest: Any = SimpleNamespace(files=files, graph=None)  # of a manifest, this is all that is read here
    monkeypatch.setattr(loading, "load_bundle", lambda _path: replace(bundle, manifest=manifest))
    monkeypatch.setattr(opening, "drift", lambda _model: 0.3)
    if precision is None:
        with pytest.raises(BundleError, match=r"off by 0\.300, and 0\.05 is allowed; export it with --reduce-range"):
            load_engine(Settings(bundles=tmp_path, threads=1))
        return
    model = load_engine(Settings(bundles=tmp_path, threads=1)).model("qa")
    assert (model.bundle.precision, model.bundle.model_path.name, model.drift) == (precision, "model.onnx", 0.3)
    assert "fp32 graph instead" in caplog.text


def test_an_int8_graph_whose_products_saturate_here_is_run_with_exact_ones(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    write_bundle(tmp_path / "qa")
    onnx.save(as_int8(tmp_path / "qa" / FP32_MODEL), tmp_path / "qa" / INT8_MODEL)
    asked = list[tuple[int, bool]]()

    def noted(bundle: Bundle, *, threads: int, exact_products: bool = False) -> Any:
        asked.append((threads, exact_products))
        return open_graph(bundle, threads=threads, exact_products=exact_products)

    monkeypatch.setattr(opening, "open_graph", noted)
    monkeypatch.setattr(opening, "drift", lambda _model: 0.001 if asked[-1][1] else 0.3)
    model = load_engine(Settings(bundles=tmp_path, threads=2)).model("qa")
    assert asked == [(1, False), (2, False), (1, True), (2, True)]
    assert (model.bundle.precision, model.drift) == ("int8", 0.3)
    assert "off by 0.300, and 0.05 is allowed: its int8 products saturate" in caplog.text


def test_files_and_hidden_directories_are_no_bundles(tmp_path: Path) -> None:
    write_bundle(tmp_path / "qa")
    (tmp_path / ".cache").mkdir()
    (tmp_path / "README.md").write_text("bundles")
    assert [model.id for model in load_engine(Settings(bundles=tmp_path)).models] == ["qa"]


def test_one_bundle_may_be_named_itself(tmp_path: Path) -> None:
    write_bundle(tmp_path / "mine", "similarity")
    (tmp_path / "mine" / "1_Pooling").mkdir()
    (tmp_path / "mine" / "1_Pooling" / "config.json").write_text("{}")
    engine = load_engine(Settings(bundles=tmp_path / "mine"))
    assert engine.model("similarity").bundle.name == "mine"


def test_what_was_never_a_bundle_does_not_stop_the_start(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    write_bundle(tmp_path / "qa")
    (tmp_path / "lost+found").mkdir()
    assert [model.id for model in load_engine(Settings(bundles=tmp_path)).models] == ["qa"]
    assert "lost+found is passed over" in caplog.text


def test_a_bundle_that_is_broken_stops_the_start(tmp_path: Path) -> None:
    write_bundle(tmp_path / "qa")
    write_bundle(tmp_path / "classify", "classify")
    (tmp_path / "classify" / "onnx" / "model.onnx").unlink()
    with pytest.raises(BundleError, match="classify holds no model"):
        load_engine(Settings(bundles=tmp_path))


def test_a_directory_that_is_missing_or_empty_is_told(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="HALFDEPTH_BUNDLES"):
        load_engine(Settings(bundles=tmp_path))
    with pytest.raises(BundleError, match="HALFDEPTH_BUNDLES"):
        load_engine(Settings(bundles=tmp_path / "missing"))


def test_several_bundles_of_a_task_without_a_default_are_refused(tmp_path: Path) -> None:
    for name in ("first", "second", "third"):
        write_bundle(tmp_path / name)
    with pytest.raises(BundleError, match=r"first, \S+second and \S+third all serve qa; rename .* default to qa$"):
        load_engine(Settings(bundles=tmp_path))


def test_the_default_is_in_the_directory_named_after_its_task(tmp_path: Path, bundles: Path) -> None:
    for name in ("an", "qa", "small"):
        write_bundle(tmp_path / name)
    (tmp_path / "theirs").symlink_to(bundles / "similarity")
    engine = load_engine(Settings(bundles=tmp_path, threads=1))
    assert [model.id for model in engine.models] == ["qa", "similarity", "an", "small"]
    assert (engine.model("qa").id, engine.model("similarity").id) == ("qa", "similarity")


def test_the_same_bundle_twice_is_refused(tmp_path: Path, bundles: Path) -> None:
    (tmp_path / "qa").symlink_to(bundles / "qa")
    (tmp_path / "other").symlink_to(bundles / "qa")
    with pytest.raises(BundleError, match=r"other and \S+qa hold the same bundle; leave one out"):
        load_engine(Settings(bundles=tmp_path))


def test_every_model_is_measured_and_asked_its_golden_answers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("qa", "small"):
        write_bundle(tmp_path / name)
    monkeypatch.setattr(tuning, "wide_share", lambda *_what, **_how: 0.5)
    monkeypatch.setattr(tuning, "measure_costs", lambda _session, _lengths: CostModel(7.0, 7.0))
    monkeypatch.setattr(opening, "drift", lambda model: {"qa": 0.01, "small": 0.02}[model.id])
    models = load_engine(Settings(bundles=tmp_path)).models
    assert [(model.costs.fixed_ms, model.drift) for model in models] == [(7.0, 0.01), (7.0, 0.02)]


@pytest.mark.parametrize(
    ("task", "graph"),
    [("qa", tiny_classify_graph), ("classify", tiny_embedding_graph), ("similarity", tiny_qa_graph)],
)
def test_a_bundle_whose_graph_is_another_task_s_is_refused(
    tmp_path: Path, task: TaskName, graph: Callable[[], ModelProto]
) -> None:
    write_bundle(tmp_path / "mixed", task, graph())
    with pytest.raises(BundleError, match=r"by its files the model is for"):
        load_engine(Settings(bundles=tmp_path))


def test_a_bundle_that_cannot_answer_is_refused(tmp_path: Path) -> None:
    write_bundle(tmp_path / "similarity", "similarity", tiny_embedding_graph(scale=0.0))
    with pytest.raises(BundleError, match="similarity loads but cannot answer"):
        load_engine(Settings(bundles=tmp_path))


@pytest.mark.parametrize("max_length", [3, 8, 16, 127])
def test_a_model_of_few_positions_is_measured_at_lengths_that_it_reads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, max_length: int
) -> None:
    for task in ("classify", "similarity"):
        write_bundle(tmp_path / task, task, max_length=max_length)
        (tmp_path / task / "sentence_bert_config.json").unlink(missing_ok=True)
    monkeypatch.setattr(opening, "cpu_share", lambda: 2)
    read = list[int]()

    def run(session: OnnxSession, window: Features, _: object = None, *, wide: bool = False) -> Outputs:
        read.append(len(window))
        if len(window) > max_length:
            raise IndexError("a position beyond the model's")
        return original(session, window, wide=wide)

    original = OnnxSession.run
    monkeypatch.setattr(OnnxSession, "run", run)
    models = load_engine(Settings(bundles=tmp_path, threads="auto")).models
    assert max(read) == max_length
    assert all(model.costs.fixed_ms > 0 and model.costs.ms_per_token > 0 for model in models)
