import resource
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from loadtest import cgroups
from loadtest.ceiling import ceiling_mb, limited, main, worst_of
from loadtest.process import address_space, python_environment, python_module, resident_mb
from loadtest.routes import Route
from tests.server import ROOT


@pytest.fixture
def sleeper() -> Iterator[subprocess.Popen[bytes]]:
    code = "import time; print('asleep', flush=True); time.sleep(600)"
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()  # from now on it takes no more memory
        yield process
        process.kill()


def test_the_ceiling_is_the_stated_formula() -> None:
    assert ceiling_mb([20.0, 30.0], workers=1, connections=2, slow=10, body_mb=2.0) == pytest.approx(
        190 + 3 * 50 + 60 * 2 + 10 * 2 * 2 + 0.3 * 10
    )
    assert "190 + 3 · graphs + 60 · (cores + 1) + 10 · connections · body" in (ROOT / "docs/serving.md").read_text()


def test_without_a_cgroup_the_address_space_is_limited(
    sleeper: subprocess.Popen[bytes], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(cgroups, "CGROUPS", tmp_path / "missing")
    ceiling_of_it = resident_mb(sleeper.pid) + 100
    with limited(sleeper.pid, ceiling_of_it) as limit:
        assert "address space" in limit.kind
        assert limit.peak_mb(sleeper.pid) >= resident_mb(sleeper.pid) - 1
        soft, _ = resource.prlimit(sleeper.pid, resource.RLIMIT_AS)
    assert soft - address_space(sleeper.pid) == pytest.approx(100e6, abs=5e6)


@pytest.mark.parametrize("example", [{"question": "Who?", "context": "Ada."}, {"source": "a", "targets": ["b"]}])
def test_the_worst_inputs_are_as_long_as_a_body_may_be(example: dict[str, object]) -> None:
    requests = worst_of(Route("/any", "any", example))
    assert len(requests) == 2
    assert 1_000_000 < max(map(len, requests)) < 2 * 1024 * 1024 + 1000


def test_a_directory_without_bundles_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--bundles", str(tmp_path)]) != 0
    assert "holds no bundle" in capsys.readouterr().err


@pytest.mark.system
def test_the_default_bundles_stay_below_the_ceiling() -> None:
    command = [*python_module("loadtest.ceiling"), "--minutes", "0.5", "--connections", "8", "--slow", "50"]
    done = subprocess.run(
        command, cwd=ROOT, env=python_environment(), capture_output=True, text=True, check=False, timeout=400
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert "kept by" in done.stdout
    assert " x 200" in done.stdout
