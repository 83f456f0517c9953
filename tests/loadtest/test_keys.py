"""Our own clients before a service that has keys, and before one that refuses what they ask."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from loadtest.__main__ import main as loadtest
from loadtest.slow import main as slow
from models.evaluate import main as evaluate
from models.tasks.remote.client import KEY_VARIABLE
from tests.server import ROOT, serve
from tests.service.conftest import write_bundle


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    root = tmp_path_factory.mktemp("keys")
    write_bundle(root / "bundles" / "qa")
    (root / "bundles" / "classify").symlink_to(ROOT / "bundles" / "classify")
    with serve(root / "bundles", root / "log", API_KEYS="first,second", READ_TIMEOUT_SECONDS="0.5") as (_, url):
        yield url


@pytest.fixture
def arguments(tmp_path: Path, url: str) -> dict[str, list[str]]:
    """Of each command, asked at a URL with a slash at its end."""
    dev = tmp_path / "dev.tsv"
    dev.write_text("text\tlabel\nA warm film\tpositive\nA dull film\tnegative\n")
    return {
        "evaluate": ["--task", "classify", "--dev", str(dev), "--url", f"{url}/"],
        "loadtest": ["--url", f"{url}/", "--seconds", "1", "--users", "4", "--out", str(tmp_path / "out")],
        "slow": ["--url", f"{url}/", "--connections", "3", "--seconds", "0.2"],
    }


COMMANDS = {"evaluate": evaluate, "loadtest": loadtest, "slow": slow}


@pytest.mark.parametrize("command", COMMANDS)
def test_without_a_key_each_says_what_the_service_says(
    arguments: dict[str, list[str]], command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert COMMANDS[command](arguments[command]) == 2
    error = capsys.readouterr().err
    assert "401: send one of the service's keys" in error
    assert "--api-key" in error
    assert "make serve" not in error
    assert error.splitlines()[-1].count("401") == 1


@pytest.mark.parametrize("way", ["flag", "variable"])
@pytest.mark.parametrize("command", COMMANDS)
def test_with_a_key_each_is_answered(
    arguments: dict[str, list[str]], command: str, way: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = ["--api-key", "second"] if way == "flag" else []
    if way == "variable":
        monkeypatch.setenv(KEY_VARIABLE, "second")
    assert COMMANDS[command]([*arguments[command], *given]) == 0


def test_a_refusal_is_told_in_the_service_s_own_words(
    url: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    dev = tmp_path / "dev.tsv"
    dev.write_text("text\tlabel\n" + "A warm film " * 1_000 + "\tpositive\n")
    arguments = ["--task", "classify", "--dev", str(dev), "--url", url, "--api-key", "first"]
    assert evaluate([*arguments, "--on-overflow", "error"]) == 2
    error = capsys.readouterr().err
    assert "/classify: 422: the text takes" in error
    assert "Unprocessable" not in error
