from pathlib import Path

import pytest

from loadtest.slow import main
from tests.server import serve
from tests.service.conftest import write_bundle


def test_others_are_answered_among_slow_clients_which_are_cut_off(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_bundle(tmp_path / "bundles" / "qa")
    with serve(tmp_path / "bundles", tmp_path / "log", READ_TIMEOUT_SECONDS="0.5", THREADS="1") as (_, url):
        assert main(["--url", url, "--connections", "30", "--seconds", "5"]) == 0
    first, *parts = capsys.readouterr().out.splitlines()
    assert int(first.split()[4]) > 30
    assert [part.split("  ")[0] for part in parts] == ["without them", "among them"]


def test_a_service_that_is_not_there_is_told_in_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--url", "http://127.0.0.1:1"]) == 2
    assert capsys.readouterr().err.count("\n") == 1
