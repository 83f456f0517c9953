"""A real server whose bundles change while every route of it is asked without a pause."""

import json
import shutil
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from loadtest.process import resident_mb
from tests.server import ROOT, Server, serve
from tests.service.conftest import CONFIGS, write_bundle
from tests.service.http.test_protocol import CONTENTS
from tests.service.startup.test_reload import ITEM, write_other_graph

RELOADS = 4
WARM_UP, MEASURED = 4, 10  # reloads
SLACK_MB = 25  # of ten reloads of a graph that takes more than twice as much each time


@contextmanager
def load(url: str, contents: dict[str, Any], check: Callable[[str, httpx.Response], None]) -> Iterator[list[int]]:
    """Ask each route in a thread of its own until the end of the block. Returns: the statuses, also of failures."""
    statuses, stop = list[int](), threading.Event()

    def ask(path: str, content: object) -> None:
        with httpx.Client(base_url=url, timeout=60) as client:
            while not stop.is_set():
                try:
                    response = client.post(path, json=content)
                    check(path, response)
                    statuses.append(response.status_code)
                except (httpx.HTTPError, AssertionError):
                    statuses.append(0)

    threads = [threading.Thread(target=ask, args=item) for item in contents.items()]
    for thread in threads:
        thread.start()
    try:
        yield statuses
    finally:
        stop.set()
        for thread in threads:
            thread.join()


def reload(server: Server) -> dict[str, Any]:
    """Send SIGHUP and wait for the end of the reload. Returns: /info."""
    process, url = server
    before = httpx.get(f"{url}/info").json()["last_reload"]
    process.send_signal(signal.SIGHUP)
    end = time.monotonic() + 60
    while (info := httpx.get(f"{url}/info").json())["last_reload"] == before:
        assert time.monotonic() < end
        time.sleep(0.02)
    return dict(info)


def revision(info: dict[str, Any]) -> str:
    [found] = [bundle["revision"] for bundle in info["bundles"] if bundle["task"] == "qa"]
    return str(found)


def test_no_request_fails_or_sees_half_of_a_bundle_while_they_are_reloaded(tmp_path: Path) -> None:
    for task in CONFIGS:
        write_bundle(tmp_path / "bundles" / task, task)
    qa, text_of, answered = tmp_path / "bundles" / "qa", dict[str, str](), set[tuple[str, str]]()

    def check(path: str, response: httpx.Response) -> None:
        assert response.status_code == 200
        if path == "/qa":
            content = response.json()
            answered.add((content["model"]["revision"], content["answers"][0]["text"]))

    with serve(tmp_path / "bundles", tmp_path / "log") as server:
        text_of[revision(httpx.get(f"{server[1]}/info").json())] = "paris"
        with load(server[1], CONTENTS | {"/qa": ITEM}, check) as statuses:
            for number in range(RELOADS):
                word = ("oslo", "paris")[number % 2]
                write_other_graph(qa, prefers=word)
                info = reload(server)
                assert info["last_reload"]["errors"] == []
                text_of[revision(info)] = word
            (qa / "tokenizer.json").write_text("{")
            broken = reload(server)
        assert len(broken["last_reload"]["errors"]) == 1
        assert revision(broken) == revision(info)
        assert httpx.post(f"{server[1]}/qa", json=ITEM).json()["answers"][0]["text"] == "paris"
        metrics = httpx.get(f"{server[1]}/metrics").text
    assert statuses.count(200) == len(statuses) > 0
    assert len(text_of) == 3  # the first graph and two others
    assert answered <= set(text_of.items())
    assert f'halfdepth_reloads_total{{model="qa",outcome="loaded",task="qa"}} {RELOADS}.0' in metrics
    assert 'halfdepth_reloads_total{model="qa",outcome="failed",task="qa"} 1.0' in metrics


@pytest.mark.system
def test_memory_after_ten_reloads_is_what_it_was(tmp_path: Path) -> None:
    shutil.copytree(ROOT / "bundles" / "qa", tmp_path / "bundles" / "qa")
    resident = list[float]()

    def check(_path: str, response: httpx.Response) -> None:
        response.raise_for_status()

    with (
        serve(tmp_path / "bundles", tmp_path / "log") as server,
        load(server[1], {"/qa": ITEM}, check) as statuses,
    ):
        for number in range(WARM_UP + MEASURED):
            (tmp_path / "bundles" / "qa" / "halfdepth.json").write_text(json.dumps({"no_answer_threshold": number}))
            assert reload(server)["last_reload"]["errors"] == []
            resident.append(resident_mb(server[0].pid))
    assert set(statuses) == {200}
    assert resident[-1] - resident[WARM_UP - 1] < SLACK_MB, resident
