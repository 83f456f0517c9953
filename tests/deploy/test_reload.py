"""Bundles reloaded on both replicas behind Debian's nginx, while Locust asks every route that is served."""

import json
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest

from loadtest.process import free_port, python_environment, python_module
from tests.deploy.configured import write_nginx
from tests.server import ROOT, Server, serve
from tests.service.test_reload_under_load import reload

pytestmark = pytest.mark.system

RUNS, SECONDS, USERS = 5, 6, 8
TASKS = ("qa", "classify", "similarity")


@pytest.fixture(scope="module")
def bundles(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("bundles")
    for task in TASKS:
        shutil.copytree(ROOT / "bundles" / task, root / task)
    return root


@pytest.fixture(scope="module")
def replicas(bundles: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Server]]:
    folder = tmp_path_factory.mktemp("replicas")
    with ExitStack() as stack:
        yield [stack.enter_context(serve(bundles, folder / f"{number}.log")) for number in (1, 2)]


@pytest.fixture(scope="module")
def url(replicas: list[Server], tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder, port = tmp_path_factory.mktemp("nginx"), free_port()
    write_nginx(folder, port, [urlsplit(replica).port or 0 for _, replica in replicas], folder / "access.log")
    nginx = shutil.which("nginx", path="/usr/sbin:/usr/bin")
    assert nginx
    foreground = f"daemon off; pid {folder}/nginx.pid; error_log {folder}/error.log;"
    process = subprocess.Popen([nginx, "-p", folder, "-c", folder / "nginx.conf", "-g", foreground])
    try:
        end = time.monotonic() + 60
        while not listens(port):
            assert time.monotonic() < end
            time.sleep(0.05)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait()


def listens(port: int) -> bool:
    try:
        return httpx.get(f"http://127.0.0.1:{port}/health/ready").is_success
    except httpx.ConnectError:
        return False


def test_no_request_of_locust_fails_while_both_replicas_reload_five_times_in_a_row(
    url: str, replicas: list[Server], bundles: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for run in range(RUNS):
        out = tmp_path / str(run)
        load = ["loadtest", "--url", url, "--seconds", str(SECONDS), "--users", str(USERS), "--out", str(out)]
        command = [*python_module("halfdepth"), *load]
        process = subprocess.Popen(
            command, env=python_environment(), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        time.sleep(SECONDS / 2)  # Locust has begun
        (bundles / "qa" / "halfdepth.json").write_text(json.dumps({"no_answer_threshold": run}))
        errors = [reload(replica)["last_reload"]["errors"] for replica in replicas]
        output, _ = process.communicate(timeout=120)
        assert process.returncode == 0, output
        assert errors == [[], []]
        rows = (out / "locust_stats.csv").read_text().splitlines()
        total = rows[-1].split(",")
        with capsys.disabled():
            sys.stdout.write(f"\nrun {run + 1}: {total[2]} requests, {total[3]} failed, two reloads\n")
        assert total[3] == "0"
    revisions = {
        bundle["revision"] for _, replica in replicas for bundle in httpx.get(f"{replica}/info").json()["bundles"]
    }
    assert len(revisions) == len(TASKS)  # both have the same
