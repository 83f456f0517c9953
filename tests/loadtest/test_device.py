"""What the command for measurements on the device says and refuses, without a browser."""

import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from queue import Queue
from types import SimpleNamespace
from typing import Any

import pytest

from loadtest import device
from loadtest.device import main, received, with_speedups
from loadtest.pages import Pages, serve_pages
from loadtest.process import LoadTestError

ROWS = [
    {"model": "bert-base", "tokens": 16, "inference_ms": 30.0},
    {"model": "distil", "tokens": 16, "inference_ms": 20.0},
    {"model": "distil", "tokens": 128, "inference_ms": 90.0},
]


@pytest.fixture
def pages(tmp_path: Path) -> Iterator[Pages]:
    for name in ("page", "bundle"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "index.html").write_text(name)
    (tmp_path / "secret").write_text("secret")
    with serve_pages({"qa": tmp_path / "bundle"}, tmp_path / "page") as pages:
        yield pages


def get(url: str) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(url) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, ""


@pytest.mark.parametrize(
    ("path", "answer"),
    [
        ("/", (200, "page")),
        ("/index.html?bundle=/bundles/qa", (200, "page")),
        ("/bundles/qa/index.html", (200, "bundle")),
        ("/bundles/other/index.html", (404, "")),
        ("/bundles", (404, "")),
        ("/../secret", (404, "")),
        ("/bundles/qa/%2e%2e/secret", (404, "")),
        ("/bundles/qa/..%2fsecret", (404, "")),
        ("/missing.js", (404, "")),
    ],
)
def test_the_page_and_its_bundles_are_served_and_nothing_else(pages: Pages, path: str, answer: tuple[int, str]) -> None:
    assert get(f"{pages.url}{path}") == answer


def test_what_the_page_posts_is_kept_in_order(pages: Pages) -> None:
    for number in range(2):
        request = urllib.request.Request(f"{pages.url}/report", b'{"row": {"tokens": %d}}' % number)
        with urllib.request.urlopen(request) as answer:
            assert answer.status == 204
    assert [pages.reports.get()["row"]["tokens"] for _ in range(2)] == [0, 1]
    assert get(f"{pages.url}/report")[0] == 404


def test_a_page_without_its_library_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("loadtest.pages.LIBRARY", tmp_path / "missing")
    with pytest.raises(LoadTestError, match="run `npm ci --ignore-scripts --prefix deploy/on-device` in"):
        serve_pages({}).__enter__()
    with pytest.raises(LoadTestError, match="run this in a checkout"):
        serve_pages({}, tmp_path).__enter__()


def fake(*reports: dict[str, Any], status: int | None = None) -> tuple[Any, Any]:
    """A server with these reports, and a browser that has this exit status."""
    queue: Queue[dict[str, Any]] = Queue()
    for report in reports:
        queue.put(report)
    return SimpleNamespace(reports=queue), SimpleNamespace(poll=lambda: status, returncode=status)


def test_rows_come_until_the_page_is_done() -> None:
    assert list(received(*fake({"row": {"tokens": 16}}, {"done": True}), 1.0)) == [{"tokens": 16}]


@pytest.mark.parametrize(
    ("reports", "status", "message"),
    [
        ([{"error": "qa holds no config.json"}], None, "the page says: qa holds no config.json"),
        ([], 3, "Chromium ended with status 3"),
        ([], None, "nothing came from the page for 0.01 s"),
    ],
)
def test_a_page_that_fails_or_hangs_ends_the_command_in_words(
    reports: list[dict[str, Any]], status: int | None, message: str
) -> None:
    with pytest.raises(LoadTestError, match=message):
        list(received(*fake(*reports, status=status), 0.01))


def test_speed_is_compared_at_the_same_length() -> None:
    assert [row["speedup_over_bert"] for row in with_speedups(ROWS, "bert-base")] == [1.0, 1.5, None]
    assert [row["speedup_over_bert"] for row in with_speedups(ROWS, "other")] == [None] * 3


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--bundles", "nowhere"], "is not a directory; name bundles by --bundles"),
        (["--bundles", "bundles/qa", "runs/../bundles/qa"], "several directories called qa"),
        (["--tokens", "8"], "--tokens must be above 15 and below 385, not 8"),
    ],
)
def test_wrong_arguments_are_told_in_one_line(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments, prog="halfdepth loadtest device") == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1


def test_a_machine_without_chromium_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(LoadTestError, match="apt-get install chromium"):
        device.chromium()


def test_it_is_a_subcommand_of_loadtest() -> None:
    command = [sys.executable, "-m", "halfdepth", "loadtest", "device", "--help"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.stdout.startswith("usage: halfdepth loadtest device [-h]")
