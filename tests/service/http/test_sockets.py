"""A service on a Unix socket."""

import json
import signal
import socket
import stat
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from loadtest.process import spawn
from service.healthcheck import main as healthcheck
from service.http.sockets import listening_sockets
from service.settings import Settings
from tests.server import serve_on_socket

ITEM = {"question": "where?", "context": "she lives in Paris."}


@pytest.fixture
def path() -> Iterator[Path]:
    """Shorter than pytest's, for a socket's path may have 107 characters."""
    with TemporaryDirectory() as folder:
        yield Path(folder, "halfdepth.sock")


def test_it_is_asked_there_drains_and_removes_its_socket(
    bundles: Path, path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("HALFDEPTH_UDS", str(path))
    assert healthcheck() == 1
    assert str(path) in capsys.readouterr().err
    with serve_on_socket(bundles, path, DRAIN_SECONDS="600") as (process, client):
        assert healthcheck() == 0
        assert client.post("/qa", json=ITEM).json()["answers"][0]["text"] == "Paris"
        assert stat.S_IMODE(path.stat().st_mode) == 0o666
        process.send_signal(signal.SIGTERM)
        while client.get("/health/ready").is_success:
            pass
        answer = client.post("/qa", json=ITEM)
        assert (answer.status_code, answer.headers["connection"]) == (200, "close")
        assert healthcheck() == 1
    with serve_on_socket(bundles, path, DRAIN_SECONDS="0") as (process, _):  # over what SIGKILL has left behind
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=60) == 0
        assert not path.exists()


def outcome(bundles: Path, path: Path) -> tuple[int, str]:
    process = spawn(BUNDLES=str(bundles), THREADS="1", UDS=str(path))
    _, stderr = process.communicate(timeout=60)
    return process.returncode, json.loads(stderr.splitlines()[-1])["message"]


def test_what_another_process_or_another_kind_of_file_has_is_left_alone(bundles: Path, path: Path) -> None:
    path.write_text("mine")
    expected = f"{path}: something other than a socket is there; remove it, or name another path"
    assert outcome(bundles, path) == (3, expected)
    assert path.read_text() == "mine"
    path.unlink()
    with socket.socket(socket.AF_UNIX) as other:
        other.bind(str(path))
        other.listen()
        assert outcome(bundles, path) == (3, f"{path}: another process listens there; stop it, or name another path")
        assert path.exists()


def test_a_directory_that_is_missing_is_told(bundles: Path, path: Path) -> None:
    missing = path.parent / "missing" / "socket"
    assert outcome(bundles, missing) == (3, f"{missing}: No such file or directory")


@pytest.mark.parametrize("host", ["256.1.1.1", f"{'a' * 64}.example"])
def test_a_name_that_has_no_address_is_told(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, host: str
) -> None:
    def fail(host: str, *_: object, **__: object) -> None:
        host.encode("idna")
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", fail)
    with pytest.raises(SystemExit) as caught, listening_sockets(Settings(host=host)):
        pass
    assert caught.value.code == 3
    assert caplog.messages == [f"{host} is not an address of this machine: set HALFDEPTH_HOST to one, such as 0.0.0.0"]
