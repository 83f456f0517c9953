"""The real thing: a child process on a free port."""

import json
import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from loadtest.process import free_port, python_environment, python_module, spawn, wait_until_ready
from models.tasks.errors import UsageError
from service.__main__ import ServeOptions, read_settings
from tests.server import Server, serve
from tests.service.conftest import write_bundle

ITEM = {"question": "where?", "context": "she lives in Paris."}


def outcome(process: subprocess.Popen[str]) -> tuple[int, str]:
    """Exit status and standard error of a process that ends by itself."""
    _, stderr = process.communicate(timeout=60)
    return process.returncode, stderr


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("served") / "log"


@pytest.fixture(scope="module")
def server(bundles: Path, log: Path) -> Iterator[Server]:
    with serve(bundles, log, DRAIN_SECONDS="0") as server:
        yield server


def test_a_real_server_answers_and_ends_well_on_sigterm(server: Server, log: Path) -> None:
    process, url = server
    response = httpx.post(f"{url}/qa", json=ITEM, headers={"X-Request-ID": "real-1"})
    assert response.status_code == 200
    assert response.json()["answers"][0]["text"] == "Paris"
    assert response.headers["x-request-id"] == "real-1"
    assert "server" not in response.headers
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=60) == 0
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    assert [line["status"] for line in lines if line.get("request_id") == "real-1"] == [200]
    assert "lives" not in log.read_text()


def test_without_standard_streams_it_serves_and_writes_into_no_connection(bundles: Path) -> None:
    port = free_port()
    variables = {"HALFDEPTH_BUNDLES": str(bundles), "HALFDEPTH_THREADS": "1", "HALFDEPTH_PORT": str(port)}
    command = ["sh", "-c", 'exec "$@" <&- >&- 2>&-', "sh", *python_module("service")]
    with subprocess.Popen(command, env=python_environment(**variables)) as process:
        try:
            wait_until_ready(f"http://127.0.0.1:{port}", process)
            assert {os.readlink(f"/proc/{process.pid}/fd/{number}") for number in range(3)} == {os.devnull}
            response = httpx.post(f"http://127.0.0.1:{port}/qa", json=ITEM)
            assert response.json()["answers"][0]["text"] == "Paris"
            process.send_signal(signal.SIGTERM)
            assert process.wait(timeout=60) == 0
        finally:
            process.kill()


def test_a_misspelt_variable_ends_with_status_2_and_one_line(bundles: Path) -> None:
    status, stderr = outcome(spawn(BUNDLES=str(bundles), PROT="80"))
    assert status == 2
    assert stderr == (
        "python -m service: HALFDEPTH_PROT is not a setting of this service; the nearest is HALFDEPTH_PORT\n"
    )


def test_a_damaged_bundle_stops_the_start_with_one_line(tmp_path: Path) -> None:
    write_bundle(tmp_path / "qa")
    (tmp_path / "qa" / "tokenizer.json").unlink()
    status, stderr = outcome(spawn(BUNDLES=str(tmp_path)))
    assert status == 1
    assert "Traceback" not in stderr
    assert "tokenizer.json is missing" in stderr.splitlines()[-1]


def test_models_and_bundles_together_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UsageError, match="give --bundles or models by name, not both; name mine among the models"):
        ServeOptions(models=("org/name",), bundles=Path("mine"))
    with pytest.raises(UsageError, match="the name of a model is empty; name one on the Hugging Face Hub"):
        ServeOptions(models=("org/name", " "))  # of a shell's variable that is not set
    monkeypatch.setenv("HALFDEPTH_MODELS", "org/other")
    assert read_settings(ServeOptions(models=("org/name",))).models == ("org/name",)
    settings = read_settings(ServeOptions(bundles=Path("mine")))
    assert (settings.models, settings.bundles) == ((), Path("mine"))


def test_help_names_the_variables() -> None:
    process = spawn("--help")
    stdout, _ = process.communicate(timeout=60)
    assert process.returncode == 0
    assert "HALFDEPTH_MAX_BODY_BYTES" in stdout
    assert "question answering, classification and similarity" in " ".join(stdout.split())
