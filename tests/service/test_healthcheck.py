"""The image's health check, against services at the addresses that they may have."""

import subprocess
import sys
from pathlib import Path

import pytest

from loadtest.process import free_port
from service.healthcheck import main
from tests.server import ROOT, serve


@pytest.mark.parametrize("host", ["127.0.0.1", "0.0.0.0", "::", "::1", "localhost", ""])
def test_a_service_is_found_wherever_it_listens(
    bundles: Path, monkeypatch: pytest.MonkeyPatch, host: str, capsys: pytest.CaptureFixture[str]
) -> None:
    port = str(free_port())
    monkeypatch.setenv("HALFDEPTH_HOST", host)
    monkeypatch.setenv("HALFDEPTH_PORT", port)
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    assert main() == 1
    assert port in capsys.readouterr().err
    with serve(bundles, HOST=host, PORT=port):
        assert main() == 0


def test_it_needs_nothing_but_python() -> None:
    code = "import sys, service.healthcheck; sys.exit(bool({'pydantic', 'numpy', 'fastapi'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0
