"""Bundles that change while they are served."""

import asyncio
import gc
import json
import logging
import shutil
import time
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import numpy as np
import onnx
import pytest
from starlette.testclient import TestClient

from models.tasks.bundle import Bundle, load_bundle
from models.tasks.session import OnnxSession
from service.app import create_app
from service.engine.engine import Engine
from service.http.gate import Lifecycle
from service.settings import Settings
from service.startup.loading import Change, Stock, fingerprint
from service.startup.reload import Reloader
from tests.service.conftest import graph_of, table_of, tiny_qa_graph, write_bundle

ITEM = {"question": "where?", "context": "oslo or paris"}


def write_other_graph(bundle: Path, *, prefers: str = "oslo") -> None:
    """A graph that answers with this word."""
    nodes = tiny_qa_graph().graph.node
    table = table_of({"[CLS]": [2, 2], prefers: [9, 9]}, other=[-5, -5])
    shape = ["batch", "sequence"]
    graph = graph_of(nodes, {"start_logits": shape, "end_logits": shape}, table=table, last=np.array([2]))
    onnx.save(graph, bundle / "onnx" / "model.onnx")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    write_bundle(tmp_path / "qa")
    write_bundle(tmp_path / "classify", "classify")
    return tmp_path


@pytest.fixture
def stock(root: Path) -> tuple[Stock, Engine]:
    stock = Stock(Settings(bundles=root, threads=1))
    return stock, stock.engine(1000)


def test_what_has_not_changed_is_not_loaded_again(stock: tuple[Stock, Engine]) -> None:
    models, changes = stock[0].reload()
    assert changes == []
    assert {id(model.session) for model in models} == {id(model.session) for model in stock[1].models}


def test_a_file_that_was_only_touched_is_not_loaded_again(stock: tuple[Stock, Engine], root: Path) -> None:
    (root / "qa" / "config.json").touch()
    assert stock[0].reload()[1] == []


def test_a_manifest_vouches_for_all_but_halfdepth_json(tmp_path: Path) -> None:
    write_bundle(tmp_path / "qa")
    (tmp_path / "qa" / "manifest.json").write_text("{}")
    first = fingerprint(tmp_path / "qa")
    (tmp_path / "qa" / "config.json").write_text("{}")
    assert fingerprint(tmp_path / "qa") == first
    (tmp_path / "qa" / "manifest.json").write_text("{ }")
    second = fingerprint(tmp_path / "qa")
    (tmp_path / "qa" / "halfdepth.json").write_text("{}")
    assert len({first, second, fingerprint(tmp_path / "qa")}) == 3


def test_a_bundle_that_changed_is_loaded_and_no_other(stock: tuple[Stock, Engine], root: Path) -> None:
    before = {model.bundle.task: model for model in stock[1].models}
    write_other_graph(root / "qa")
    models, changes = stock[0].reload()
    assert changes == [Change("qa", "qa", "loaded")]
    after = {model.bundle.task: model for model in models}
    assert after["classify"] is before["classify"]
    assert after["qa"].bundle.revision != before["qa"].bundle.revision
    assert after["qa"].loaded_at > before["qa"].loaded_at


def test_the_old_bundle_is_kept_if_the_new_one_is_broken_and_the_others_are_loaded(
    stock: tuple[Stock, Engine], root: Path
) -> None:
    (root / "qa" / "tokenizer.json").write_text("{")
    (root / "classify" / "config.json").write_text((root / "classify" / "config.json").read_text() + " ")
    models, changes = stock[0].reload()
    assert [(change.model, change.outcome) for change in changes] == [("classify", "loaded"), ("qa", "failed")]
    assert "tokenizer.json" in str(changes[1].error)
    assert next(model for model in models if model.id == "qa") is stock[1].model("qa")


def test_a_failure_of_any_kind_keeps_the_old_bundle(
    stock: tuple[Stock, Engine], root: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    write_other_graph(root / "qa")
    monkeypatch.setattr("service.startup.opening.build_task", lambda *_, **__: 1 / 0)
    _, changes = stock[0].reload()
    assert changes == [Change("qa", "qa", "failed", f"{root / 'qa'}: it cannot be loaded; the log has the reason")]
    assert "ZeroDivisionError" in caplog.text


def test_files_that_change_while_they_are_loaded_are_not_served_half_old_and_half_new(
    stock: tuple[Stock, Engine], root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_other_graph(root / "qa")

    def load(path: Path) -> Bundle:
        bundle = load_bundle(path)
        write_other_graph(path, prefers="paris")
        return bundle

    with monkeypatch.context() as patched:
        patched.setattr("service.startup.loading.load_bundle", load)
        _, changes = stock[0].reload()
    told = f"{root / 'qa'} changed while it was loaded; ask for a reload once it is whole"
    assert changes == [Change("qa", "qa", "failed", told)]
    assert stock[0].reload()[1] == [Change("qa", "qa", "loaded")]


def test_a_bundle_that_is_new_is_served_and_one_that_is_gone_is_not(stock: tuple[Stock, Engine], root: Path) -> None:
    write_bundle(root / "small")
    models, changes = stock[0].reload()
    assert [change.outcome for change in changes] == ["loaded"]
    assert [model.id for model in models] == ["classify", "qa", "small"]
    shutil.rmtree(root / "small")
    models, changes = stock[0].reload()
    assert changes == [Change("qa", "small", "removed")]
    assert [model.id for model in models] == ["classify", "qa"]


def test_the_last_bundle_of_a_task_is_kept_when_it_is_gone(stock: tuple[Stock, Engine], root: Path) -> None:
    shutil.rmtree(root / "qa")
    models, changes = stock[0].reload()
    assert [model.id for model in models] == ["classify", "qa"]
    assert changes[0].error == f"{root / 'qa'} is gone, and is served on as the last bundle for qa; restart to end that"
    shutil.rmtree(root)
    models, changes = stock[0].reload()
    assert [model.id for model in models] == ["classify", "qa"]
    assert "is not a directory" in str(changes[0].error)


def test_a_directory_that_could_not_be_started_with_changes_nothing(stock: tuple[Stock, Engine], root: Path) -> None:
    (root / "qa").rename(root / "first")
    write_bundle(root / "second")
    write_other_graph(root / "second")
    models, changes = stock[0].reload()
    assert [model.id for model in models] == ["classify", "qa"]
    assert len(changes) == 1
    assert "all serve qa; rename the directory of the default to qa" in str(changes[0].error)


@pytest.fixture
def served(root: Path) -> Iterator[tuple[TestClient, Lifecycle]]:
    lifecycle = Lifecycle()
    with TestClient(create_app(Settings(bundles=root, threads=1), lifecycle=lifecycle)) as client:
        yield client, lifecycle


def until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


def reload(client: TestClient, lifecycle: Lifecycle) -> dict[str, object]:
    """Ask for a reload and wait for its end."""
    before = client.get("/info").json()["last_reload"]
    lifecycle.reloads.put(True)
    until(lambda: bool(client.get("/info").json()["last_reload"] != before))
    last: dict[str, object] = client.get("/info").json()["last_reload"]
    return last


def test_a_reload_is_told_by_info_metrics_and_the_log(
    served: tuple[TestClient, Lifecycle], root: Path, caplog: pytest.LogCaptureFixture
) -> None:
    client, _ = served
    before = client.get("/info").json()
    assert before["last_reload"] is None
    assert client.post("/qa", json=ITEM).json()["answers"][0]["text"] == "paris"
    write_other_graph(root / "qa")
    with caplog.at_level(logging.INFO, logger="service"):
        assert reload(*served)["errors"] == []
        until(lambda: bool(client.post("/qa", json=ITEM).json()["answers"][0]["text"] == "oslo"))
        (root / "qa" / "config.json").write_text("{")
        errors = json.dumps(reload(*served)["errors"])
    assert "config.json" in errors
    assert "reload failed, what was loaded is served on" in caplog.text
    assert client.post("/qa", json=ITEM).json()["answers"][0]["text"] == "oslo"
    metrics = client.get("/metrics").text
    assert 'halfdepth_reloads_total{model="qa",outcome="loaded",task="qa"} 1.0' in metrics
    assert 'halfdepth_reloads_total{model="qa",outcome="failed",task="qa"} 1.0' in metrics
    [revision] = [bundle["revision"] for bundle in client.get("/info").json()["bundles"] if bundle["task"] == "qa"]
    assert metrics.count('halfdepth_model_info{name="qa"') == 1
    assert f'revision="{revision}"' in metrics


def test_a_model_that_was_swapped_out_is_released(served: tuple[TestClient, Lifecycle], root: Path) -> None:
    sessions = weakref.WeakSet[OnnxSession]()
    init = OnnxSession.__init__

    def noted(session: OnnxSession, *arguments: Any, **options: Any) -> None:  # whatever it is made of
        init(session, *arguments, **options)
        sessions.add(session)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(OnnxSession, "__init__", noted)
        for number in range(4):
            write_other_graph(root / "qa", prefers=("oslo", "paris")[number % 2])
            reload(*served)
            served[0].post("/qa", json=ITEM)
    gc.collect()
    assert len(sessions) == 1  # of those that were opened since the start


def test_a_clock_finds_what_has_changed_and_tells_a_failure_once(root: Path, caplog: pytest.LogCaptureFixture) -> None:
    (root / "lost+found").mkdir()
    stock, swaps, looks = Stock(Settings(bundles=root, threads=1)), list[list[Change]](), 0
    stock.engine(1000)
    original = stock.reload

    def counted() -> object:
        nonlocal looks
        looks += 1
        return original()

    async def watch() -> None:
        reloader = Reloader(stock, SimpleQueue(), 0.01, lambda _, changes: swaps.append(list(changes)))
        reloader.start()
        while looks < 3:
            await asyncio.sleep(0.01)
        assert reloader.last is None
        (root / "qa" / "tokenizer.json").write_text("{")
        while not swaps or looks < 20:
            await asyncio.sleep(0.01)
        reloader.stop()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(stock, "reload", counted)
        asyncio.run(watch())
    assert [change.outcome for changes in swaps for change in changes] == ["failed"]
    for message in ("reload failed", "qa has no manifest.json", "lost+found is passed over"):
        assert caplog.text.count(message) == 1


@pytest.mark.parametrize("seconds", [0, 1e300])
def test_a_reload_is_told_once_its_models_are_served(root: Path, seconds: float) -> None:
    stock, told_at_the_swap = Stock(Settings(bundles=root, threads=1)), list[object]()
    stock.engine(1000)
    requests = SimpleQueue[bool]()

    async def reload_once() -> object:
        reloader = Reloader(stock, requests, seconds, lambda *_: told_at_the_swap.append(reloader.last))
        reloader.start()
        requests.put(True)
        while not told_at_the_swap:
            await asyncio.sleep(0.01)
        reloader.stop()
        return reloader.last

    assert asyncio.run(reload_once()) is not None
    assert told_at_the_swap == [None]
