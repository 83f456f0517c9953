"""The service as a child process."""

import subprocess
import sys
from pathlib import Path

import pytest

from loadtest.connection import Connection, get
from loadtest.process import (
    LoadTestError,
    cpu_seconds,
    is_ready,
    resident_mb,
    service,
    stolen_seconds,
    wait_until_ready,
)
from tests.service.conftest import write_bundle


def test_it_listens_while_the_block_lasts_and_leaves_its_log(tmp_path: Path) -> None:
    write_bundle(tmp_path / "bundles" / "qa")
    with service(tmp_path / "log", BUNDLES=str(tmp_path / "bundles"), THREADS="1", DRAIN_SECONDS="0") as running:
        assert running.seconds > 0
        assert resident_mb(running.process.pid) > 1
        assert cpu_seconds(running.process.pid) > 0
        with Connection(running.url) as connection:
            assert connection.ask(get("/health/ready")).status == 200
    assert running.process.returncode == 0
    assert running.url in (tmp_path / "log").read_text()


def test_one_that_cannot_start_is_told_with_its_log(tmp_path: Path) -> None:
    with pytest.raises(LoadTestError, match="log says why"), service(tmp_path / "log", BUNDLES=str(tmp_path / "none")):
        pass
    assert "none is not a directory" in (tmp_path / "log").read_text()


@pytest.mark.parametrize("host", ["localhost", "::", "0.0.0.0", "::1"])
def test_it_is_found_at_any_host_of_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, host: str) -> None:
    monkeypatch.setenv("HALFDEPTH_HOST", host)
    write_bundle(tmp_path / "bundles" / "qa")
    with service(BUNDLES=str(tmp_path / "bundles"), THREADS="1", DRAIN_SECONDS="0") as running:
        assert is_ready(running.url)


def test_a_socket_of_the_environment_is_not_for_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HALFDEPTH_UDS", str(tmp_path / "socket"))
    write_bundle(tmp_path / "bundles" / "qa")
    with service(BUNDLES=str(tmp_path / "bundles"), THREADS="1", DRAIN_SECONDS="0") as running:
        assert is_ready(running.url)


def test_waiting_has_an_end() -> None:
    process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    try:
        with pytest.raises(LoadTestError, match=r"nothing is ready at http://127\.0\.0\.1:9 after 0\.1 s"):
            wait_until_ready("http://127.0.0.1:9", process, 0.1)
    finally:
        process.communicate()
    with pytest.raises(LoadTestError, match="ended before it listened"):
        wait_until_ready("http://127.0.0.1:9", process, 60)


def test_stolen_time_is_of_all_cores_and_in_seconds(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "stat").write_text("cpu  10 20 30 40 50 60 70 250 90 100\ncpu0 5 10 15 20 25 30 35 125 45 50\n")
    monkeypatch.setattr("loadtest.process.STAT", tmp_path / "stat")
    monkeypatch.setattr("loadtest.process.TICKS", 100)
    assert stolen_seconds() == 2.5
