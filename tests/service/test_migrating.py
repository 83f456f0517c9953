"""docs/migrating.md: what it tells people to run, it runs here, against a real server."""

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from starlette.routing import BaseRoute

from loadtest.process import python_environment
from service.app import create_app
from service.settings import Settings
from tests.server import ROOT, serve
from tests.service.conftest import CONFIGS, write_bundle

PAGE = (ROOT / "docs" / "migrating.md").read_text()
BLOCKS = re.findall(r"^```(python|bash) after\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    root = tmp_path_factory.mktemp("roomy")
    for task in CONFIGS:
        write_bundle(root / task, task, max_length=512)
    with serve(root) as (_, url):
        yield url


@pytest.mark.parametrize(("language", "code"), BLOCKS, ids=range(1, len(BLOCKS) + 1))
def test_what_is_to_be_run_after_the_move_runs(language: str, code: str, url: str) -> None:
    code = code.replace("http://localhost:8000", url).replace("localhost:8000", url)
    command = [sys.executable, "-W", "error", "-c", code]
    if language == "bash":
        command = ["bash", "-euc", code.replace("curl -s ", "curl --silent --show-error --fail-with-body ")]
    done = subprocess.run(command, env=python_environment(), capture_output=True, text=True, check=False, timeout=100)
    assert done.returncode == 0, done.stderr + done.stdout
    assert done.stdout


def test_each_of_the_four_has_something_to_run() -> None:
    sections = PAGE.split("\n## ")[1:]
    assert [section.partition("\n")[0] for section in sections] == [
        'From `pipeline("question-answering")`',
        "From Haystack's reader",
        "From text-embeddings-inference",
        "From infinity",
    ]
    assert all(" after\n" in section and "\n| " in section for section in sections)


def test_every_route_and_variable_of_the_page_is_ours(bundles: Path) -> None:
    routes: list[BaseRoute] = create_app(Settings(bundles=bundles, threads=1)).routes
    paths = {getattr(route, "path", "") for route in routes}
    asked = set(re.findall(r"localhost:8000(/[a-z0-9/-]+)", "".join(code for _, code in BLOCKS)))
    assert {path for path in asked if path != "/v1"} <= paths
    fields = {f"HALFDEPTH_{name.upper()}" for name in Settings.model_fields}
    assert set(re.findall(r"HALFDEPTH_[A-Z_]+", PAGE)) <= fields
