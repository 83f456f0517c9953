"""What a newcomer does: clone, `make serve`, ask, stop."""

import os
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from loadtest.process import free_port
from tests.server import ROOT

INSTALL_AND_START_S = 600
QUESTION = {
    "question": "Who repaired the lighthouse lamp?",
    "context": "The storm put out the lamp of the lighthouse. Maria Jensen repaired it the next morning.",
}


def bare_environment(home: Path) -> dict[str, str]:
    """Debian's own programs, an empty home, and of the caller's settings only how to reach a package index."""
    network = ("PIP_", "SSL_CERT_", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY")
    kept = {name: value for name, value in os.environ.items() if name.upper().startswith(network)}
    return {"HOME": str(home), "PATH": "/usr/local/bin:/usr/bin:/bin", **kept}


def wait_until_ready(server: subprocess.Popen[bytes], client: httpx.Client, log: Path) -> None:
    deadline = time.monotonic() + INSTALL_AND_START_S
    while time.monotonic() < deadline:
        assert server.poll() is None, log.read_text()
        try:
            if client.get("/health/ready").is_success:
                return
        except httpx.ConnectError:
            pass  # still installing, or not listening yet
        time.sleep(0.2)
    pytest.fail(f"not ready within {INSTALL_AND_START_S} s: {log.read_text()}")


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    path = tmp_path / "clone"
    subprocess.run(["git", "clone", "--quiet", ROOT, path], check=True)
    return path


@pytest.fixture
def served(clone: Path, tmp_path: Path) -> Iterator[tuple[httpx.Client, subprocess.Popen[bytes]]]:
    home, log, port = tmp_path / "home", tmp_path / "serve.log", free_port()
    home.mkdir()
    with log.open("wb") as output:
        server = subprocess.Popen(
            ["make", "serve", f"PORT={port}"],
            cwd=clone,
            env=bare_environment(home),
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=60, trust_env=False) as client:
            wait_until_ready(server, client, log)
            yield client, server
    finally:
        if server.poll() is None:
            os.killpg(server.pid, signal.SIGKILL)
            server.wait()


@pytest.mark.system
def test_a_fresh_clone_serves_a_right_answer_and_stops_when_told(
    served: tuple[httpx.Client, subprocess.Popen[bytes]], clone: Path
) -> None:
    client, server = served
    answer = client.post("/qa", json=QUESTION).raise_for_status().json()["answers"][0]
    assert answer["text"] == "Maria Jensen"
    assert QUESTION["context"][answer["start"] : answer["end"]] == "Maria Jensen"

    installed = {path.name for path in clone.glob(".venv-serve/lib/python3*/site-packages/*")}
    assert "onnxruntime" in installed
    assert not installed & {"torch", "transformers"}

    # `make` hands the signal on to the service, waits for it, and only then dies of the signal itself.
    server.send_signal(signal.SIGTERM)
    server.wait()
    with pytest.raises(httpx.ConnectError):
        client.get("/health/live")
