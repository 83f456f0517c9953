"""The bench's inputs and its client, against a real server with the default bundle."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from loadtest.bench import input_of, main, over_http
from models.tasks.build import qa_task
from models.tasks.bundle import load_bundle
from models.tasks.qa import QAInput
from tests.server import ROOT, serve

BUNDLES = ROOT / "bundles"


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with serve(BUNDLES) as (_, url):
        yield url


@pytest.mark.parametrize("tokens", [16, 33, 384])
def test_input_takes_the_tokens_that_were_asked_for(tokens: int) -> None:
    task = qa_task(load_bundle(BUNDLES / "qa"))
    assert task.encode(input_of(tokens, task.tokenizer)).usage.tokens_in == tokens


def test_every_length_has_a_row(url: str, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["--url", url, "--bundle", str(BUNDLES / "qa"), "--tokens", "16", "40", "--pairs", "3"]
    assert main(arguments) == 0
    first, _, *rows = capsys.readouterr().out.splitlines()
    assert first == "1 threads, 3 pairs, milliseconds"
    assert [int(row.split()[0]) for row in rows] == [16, 40]


def test_refused_request_is_no_measurement(url: str) -> None:
    refused = pytest.raises(RuntimeError, match=r"/qa answered http/1\.1 422 .*must not be blank")
    with over_http(url) as answer, refused:
        answer(QAInput(" ", "Nobody."))


def test_no_server_is_told(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert main(["--url", "http://127.0.0.1:9", "--bundle", str(BUNDLES / "qa")]) == 2
    assert capsys.readouterr().err.endswith("start the service with `make serve`\n")
    assert main(["--bundle", str(tmp_path)]) == 2
    assert "holds no model" in capsys.readouterr().err
