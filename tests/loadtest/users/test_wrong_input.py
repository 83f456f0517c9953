"""Wrong input of `halfdepth loadtest`: each kind ends in one line and status 2, and nothing is sent."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from loadtest.__main__ import main
from tests.loadtest.users.fake_service import FakeService, serving


@pytest.fixture(scope="module")
def fake() -> Iterator[FakeService]:
    with serving(FakeService()) as running:
        yield running


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--slo", "ask.p99=1"], "--slo 'ask.p99=1' does not parse; an objective looks like"),
        (["--slo", "errors<1%", "--slo", "qa.p99<1ms"], "/qa is not loaded; the routes are ask"),
        (["--route", "/embed"], "there is no route /embed to load; there are /ask"),
        (["--model", "other"], "has no model other"),
        (["--payloads", "{broken}"], "broken.jsonl, line 2: this is not JSON"),
        (["--payloads", "{unknown}"], "unknown.jsonl, line 2: the service has no POST /qa; it has /ask"),
        (["--payloads", "{unknown}", "--model", "asker"], "leave out --model"),
        (["--payloads", "none.jsonl"], "none.jsonl cannot be read: No such file or directory"),
        (["--rate", "0"], "--rate must be above 0"),
        (["--shape", "flat"], "invalid choice: 'flat'"),
        (["--through-nginx"], "give one of them"),
        (["--rate", "1", "--users", "1"], "give one of them"),
        (["--api-key", "two words"], "the API key has characters that no key has"),
    ],
)
def test_it_is_told_in_one_line(
    fake: FakeService, tmp_path: Path, arguments: list[str], says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    files = {"broken": tmp_path / "broken.jsonl", "unknown": tmp_path / "unknown.jsonl"}
    files["broken"].write_text('{"path": "/ask", "body": {}}\n{"path": \n')
    files["unknown"].write_text('{"path": "/ask", "body": {}}\n{"path": "/qa", "body": {}}\n')
    given = [argument.format(**files) for argument in arguments]
    assert main(["--url", fake.url, "--out", str(tmp_path / "out"), *given]) == 2
    [line] = capsys.readouterr().err.splitlines()
    assert says in line
    assert fake.bodies == []


def test_a_worker_is_told_by_its_master(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--worker", "there", "--master", "--rate", "5"]) == 2
    assert "told by its master what to do; give --rate, --master there" in capsys.readouterr().err


def test_a_broken_line_and_a_broken_objective_are_told_before_a_service_is_started(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("loadtest.users.command.service", None)
    file = tmp_path / "mine.jsonl"
    file.write_text("[]")
    assert main(["--payloads", str(file)]) == 2
    assert "mine.jsonl, line 1: this is not a JSON object" in capsys.readouterr().err
    assert main(["--slo", "fast"]) == 2
    assert "--slo 'fast' does not parse" in capsys.readouterr().err
