import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from starlette.testclient import TestClient

from tests.server import ROOT

FOLDER = ROOT / "service" / "playground"
FILES = {path.name for path in FOLDER.iterdir() if path.suffix in {".html", ".css", ".js"}} - {"index.html"}


def test_the_page_and_its_files_come_with_a_policy_that_forbids_everything_else(client: TestClient) -> None:
    for url in ("/", *(f"/playground/{name}" for name in FILES)):
        response = client.get(url)
        assert response.status_code == 200
        policy = response.headers["content-security-policy"].split("; ")
        assert {"default-src 'none'", "script-src 'self'", "form-action 'none'", "frame-ancestors 'none'"} <= set(
            policy
        )
        assert "unsafe" not in response.headers["content-security-policy"]
        assert response.headers["x-content-type-options"] == "nosniff"


@pytest.mark.parametrize(
    ("url", "media_type"),
    [
        ("/", "text/html; charset=utf-8"),
        ("/playground/style.css", "text/css; charset=utf-8"),
        ("/playground/app.js", "text/javascript; charset=utf-8"),
    ],
)
def test_a_file_is_what_its_media_type_says(client: TestClient, url: str, media_type: str) -> None:
    assert client.get(url).headers["content-type"] == media_type


def test_the_page_asks_for_files_that_are_there_and_for_nothing_elsewhere(client: TestClient) -> None:
    text = client.get("/").text + "".join(client.get(f"/playground/{name}").text for name in FILES)
    assert set(re.findall(r'(?:src|href)="playground/([^"]+)"|from "\./([^"]+)"', text)) <= {
        pair for name in FILES for pair in ((name, ""), ("", name))
    }
    assert "//" not in re.sub(r"^\s*//.*|; //.*|\) //.*", "", text, flags=re.MULTILINE)


def test_the_page_stays_out_of_the_documentation(client: TestClient) -> None:
    paths = client.get("/openapi.json").json()["paths"]
    assert not [path for path in paths if path == "/" or path.startswith("/playground")]


def test_another_method_is_refused_as_a_problem(client: TestClient) -> None:
    response = client.post("/")
    assert (response.status_code, response.json()["code"]) == (405, "method_not_allowed")


def test_a_wheel_has_the_files_of_the_page(tmp_path: Path) -> None:
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, tmp_path)
    shutil.copytree(ROOT / "service", tmp_path / "service")  # apart, for a build leaves its folders behind
    options = ["--quiet", "--no-deps", "--no-build-isolation", "--wheel-dir", str(tmp_path)]
    subprocess.run([sys.executable, "-m", "pip", "wheel", *options, str(tmp_path)], check=True)
    [wheel] = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        packed = set(archive.namelist())
    assert {f"service/playground/{name}" for name in FILES | {"index.html"}} <= packed
