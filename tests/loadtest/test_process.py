"""The service as a child process."""

from pathlib import Path

import pytest

from loadtest.connection import Connection, get
from loadtest.process import LoadTestError, cpu_seconds, resident_mb, service
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
