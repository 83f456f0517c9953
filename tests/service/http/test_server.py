"""Signals, sent to a real server."""

import json
import os
import resource
import select
import shutil
import signal
from pathlib import Path

import httpx
import pytest

from loadtest.process import LoadTestError, spawn
from tests.server import ROOT, connect, post, response, serve, was_cut_off

BODY = json.dumps({"question": "where?", "context": "she lives in Paris."}).encode()


def status_of(url: str) -> tuple[int, object]:
    answer = httpx.get(url)
    return answer.status_code, answer.json().get("code")


def wait_until_draining(url: str) -> httpx.Response:
    """The answer to a new request; bounded by the process, which would end by itself without one in flight."""
    while (answer := httpx.post(f"{url}/qa", content=BODY, headers={"Content-Type": "application/json"})).is_success:
        pass
    return answer


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_requests_are_answered_after_the_first_signal_and_the_second_ends_all(
    bundles: Path, number: signal.Signals
) -> None:
    with serve(bundles, DRAIN_SECONDS="600") as (process, url):
        assert status_of(f"{url}/health/ready") == (200, None)
        process.send_signal(number)
        while status_of(f"{url}/health/ready") == (200, None):
            pass
        assert status_of(f"{url}/health/ready") == (503, "draining")
        assert status_of(f"{url}/health/live") == (200, None)
        answer = httpx.post(f"{url}/qa", json=json.loads(BODY))
        assert answer.json()["answers"][0]["text"] == "Paris"
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=60) == 128 + signal.SIGTERM


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_what_is_in_flight_is_finished_while_new_requests_are_refused(bundles: Path, number: signal.Signals) -> None:
    with serve(bundles, DRAIN_SECONDS="0", READ_TIMEOUT_SECONDS="600") as (process, url), connect(url) as slow:
        beginning, body = post("/qa", BODY, "expect: 100-continue")
        slow.sendall(beginning)
        assert slow.recv(100).startswith(b"HTTP/1.1 100")  # the request has reached the application
        process.send_signal(number)
        refused = wait_until_draining(url)
        assert (refused.status_code, refused.json()["code"]) == (503, "draining")
        assert (refused.headers["retry-after"], refused.headers["connection"]) == ("1", "close")
        assert refused.headers["x-request-id"] == refused.json()["request_id"]
        assert status_of(f"{url}/health/ready") == (503, "draining")
        assert status_of(f"{url}/health/live") == (200, None)
        slow.sendall(body)
        answer, content = response(slow)
        assert answer.status == 200
        assert json.loads(content)["answers"][0]["text"] == "Paris"
        assert process.wait(timeout=60) == 0


def test_a_run_that_takes_longer_than_any_timeout_is_finished(bundles: Path) -> None:
    """Neither the sweep for slow clients nor the end of the process cuts off who waits for us."""
    many = {"inputs": {"source_sentence": "Oslo", "sentences": ["Paris"] * 15_000}}
    variables = {"DRAIN_SECONDS": "0", "READ_TIMEOUT_SECONDS": "0.2", "MAX_INPUTS": "15000"}
    with serve(bundles, **variables) as (process, url), connect(url) as waiting:
        waiting.sendall(b"".join(post("/hf/sentence-similarity", json.dumps(many).encode())))
        while "halfdepth_in_flight 1.0" not in httpx.get(f"{url}/metrics").text:
            assert not select.select([waiting], [], [], 0)[0], "answered too soon to show anything"
        process.send_signal(signal.SIGTERM)
        answer, content = response(waiting)
        assert (answer.status, len(json.loads(content))) == (200, 15_000)
        timing = dict(part.split(";dur=") for part in str(answer.headers["server-timing"]).split(", "))
        assert float(timing["total"]) > 1_000 * float(variables["READ_TIMEOUT_SECONDS"]), "too short to show anything"
        assert process.wait(timeout=60) == 0


def test_a_client_that_never_finishes_does_not_keep_the_process(bundles: Path) -> None:
    with serve(bundles, DRAIN_SECONDS="0", READ_TIMEOUT_SECONDS="1") as (process, url), connect(url) as stalled:
        beginning, _ = post("/qa", BODY, "expect: 100-continue")
        stalled.sendall(beginning)
        stalled.recv(100)
        process.send_signal(signal.SIGTERM)
        assert was_cut_off(stalled)
        assert process.wait(timeout=60) == 0


def test_idle_connections_do_not_keep_the_process(bundles: Path) -> None:
    with serve(bundles, DRAIN_SECONDS="0") as (process, url), connect(url) as silent, httpx.Client() as kept_alive:
        kept_alive.get(f"{url}/health/live")
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=60) == 0
        assert was_cut_off(silent)


def test_an_address_that_is_taken_stops_the_start(bundles: Path) -> None:
    with serve(bundles) as (_, url):
        port = url.rpartition(":")[2]
        with pytest.raises(LoadTestError, match="ended before it listened"), serve(bundles, PORT=port):
            pass


def test_all_addresses_of_ipv6_are_those_of_ipv4_too(bundles: Path) -> None:
    with serve(bundles, HOST="::") as (_, url):
        port = url.rpartition(":")[2]
        for host in ("127.0.0.1", "[::1]"):
            assert status_of(f"http://{host}:{port}/health/ready") == (200, None)
        process = spawn(BUNDLES=str(bundles), THREADS="1", HOST="::", PORT=port)
        _, error = process.communicate(timeout=60)
        assert process.returncode == 3
        assert "in use" in error


def test_the_server_may_open_as_many_files_as_the_system_lets_it(bundles: Path) -> None:
    with serve(bundles) as (process, _):
        soft, hard = resource.prlimit(process.pid, resource.RLIMIT_NOFILE)
        assert soft == hard


def test_a_process_that_may_open_no_file_answers_on_the_connections_that_it_has(bundles: Path) -> None:
    with serve(bundles) as (process, url), httpx.Client(base_url=url) as client:
        assert client.get("/health/live").status_code == 200
        _, hard = resource.prlimit(process.pid, resource.RLIMIT_NOFILE)
        taken = len(os.listdir(f"/proc/{process.pid}/fd"))
        resource.prlimit(process.pid, resource.RLIMIT_NOFILE, (taken, hard))
        asked = ("/info", "/v2", "/v2/models/qa", "/v1/models", "/metrics", "/openapi.json", "/docs", "/health/ready")
        assert {path: client.get(path).status_code for path in asked} == dict.fromkeys(asked, 200)
        assert client.post("/qa", json=json.loads(BODY)).json()["answers"][0]["text"] == "Paris"


def test_files_cut_short_while_they_are_served_change_no_answer_and_stop_the_next_start(tmp_path: Path) -> None:
    shutil.copytree(ROOT / "bundles" / "qa", tmp_path / "qa")
    question = {"question": "Who built the lighthouse?", "context": "It was built in 1871 by Anna Lindqvist. " * 30}

    def answers(url: str) -> object:
        return httpx.post(f"{url}/qa", json=question).raise_for_status().json()["answers"]

    with serve(tmp_path) as (_, url):
        before = answers(url)
        files = [path for path in (tmp_path / "qa").rglob("*") if path.is_file()]
        for path in files:
            os.truncate(path, path.stat().st_size // 2)
        assert len(files) > 5
        assert [answers(url) for _ in range(20)] == [before] * 20
        assert status_of(f"{url}/health/ready") == (200, None)
    process = spawn(BUNDLES=str(tmp_path), PORT="0")
    _, error = process.communicate(timeout=60)
    assert process.returncode == 1
    assert "manifest.json" in error.strip().splitlines()[-1]
