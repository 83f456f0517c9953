"""Debian's nginx over two real replicas, each of them restarted under load."""

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import pytest

from loadtest.process import free_port
from service.settings import Settings
from tests.deploy.configured import write_nginx
from tests.server import ROOT, wait_until_ready

pytestmark = pytest.mark.system

CLIENTS = 8  # each asks again as soon as it is answered
RUNS = 5
DRAIN_S = 1
BODY = {"question": "Who repaired the lamp?", "context": "The storm put out the lamp. Maria Jensen repaired it."}


class Replica:
    """A service on a port of its own, which it keeps over a restart."""

    def __init__(self, log: Path) -> None:
        self.port = free_port()
        self.log = log
        self.start()

    def start(self) -> None:
        variables = {"BUNDLES": "bundles", "PORT": str(self.port), "THREADS": "1", "DRAIN_SECONDS": str(DRAIN_S)}
        environment = os.environ | {f"HALFDEPTH_{name}": value for name, value in variables.items()}
        with self.log.open("ab") as log:  # a pipe that nobody reads would stop the service once it is full
            command = [sys.executable, "-m", "service"]
            self.process = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=log, stderr=log)
        wait_until_ready(f"http://127.0.0.1:{self.port}/health/ready", self.process, self.log)

    def restart(self) -> None:
        self.process.send_signal(signal.SIGTERM)
        assert self.process.wait() == 0
        self.start()


@dataclass
class Load:
    """Clients that ask without a pause, until told to stop."""

    url: str
    statuses: list[int] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)
    _stop: threading.Event = field(default_factory=threading.Event)

    def __enter__(self) -> "Load":
        self._threads = [threading.Thread(target=self._ask) for _ in range(CLIENTS)]
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def _ask(self) -> None:
        with httpx.Client(base_url=self.url, timeout=60) as client:
            while not self._stop.is_set():
                try:
                    response = client.post("/qa", json=BODY)
                except httpx.HTTPError as error:
                    self.failures.append(repr(error))
                    continue
                self.statuses.append(response.status_code)
                if response.status_code != 200 or response.json()["answers"][0]["text"] != "Maria Jensen":
                    self.failures.append(f"{response.status_code}: {response.text}")


@dataclass(frozen=True)
class Balanced:
    """nginx, by its URL and access log, over its replicas."""

    url: str
    replicas: list[Replica]
    log: Path

    def lines(self) -> list[dict[str, object]]:
        return [json.loads(line) for line in self.log.read_text().splitlines()]


@pytest.fixture(scope="module")
def balanced(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Balanced]:
    folder = tmp_path_factory.mktemp("nginx")
    replicas = [Replica(folder / f"replica-{number}.log") for number in (1, 2)]
    port, log = free_port(), folder / "access.log"
    write_nginx(folder, port, [replica.port for replica in replicas], log)
    nginx = shutil.which("nginx", path="/usr/sbin:/usr/bin")
    assert nginx
    foreground = f"daemon off; pid {folder}/nginx.pid; error_log {folder}/error.log;"
    process = subprocess.Popen([nginx, "-p", folder, "-c", folder / "nginx.conf", "-g", foreground])
    url = f"http://127.0.0.1:{port}"
    try:
        wait_until_ready(f"{url}/health/ready", process, folder / "error.log")
        yield Balanced(url, replicas, log)
    finally:
        process.terminate()
        process.wait()
        for replica in replicas:
            replica.process.kill()
            replica.process.wait()


def test_no_request_fails_while_each_replica_is_restarted_in_turn(
    balanced: Balanced, capsys: pytest.CaptureFixture[str]
) -> None:
    for run in range(RUNS):
        with Load(balanced.url) as load:
            begun = time.monotonic()
            for replica in balanced.replicas:
                replica.restart()
            seconds = time.monotonic() - begun
        with capsys.disabled():
            line = f"\nrun {run + 1}: {len(load.statuses)} requests of {CLIENTS} clients in {seconds:.0f} s, "
            sys.stdout.write(line + f"{len(load.failures)} failed\n")
        assert load.failures == []
        assert load.statuses
    served = {str(line["replica"]) for line in balanced.lines()}
    assert {f"127.0.0.1:{replica.port}" for replica in balanced.replicas} <= served
    assert any(", " in replica for replica in served), "nothing was ever asked a second time"


def test_ids_pass_and_bodies_over_the_limit_are_refused_as_problems(balanced: Balanced) -> None:
    response = httpx.post(f"{balanced.url}/qa", json=BODY, headers={"X-Request-ID": "mine"})
    assert response.headers["x-request-id"] == "mine"
    assert balanced.lines()[-1]["request_id"] == "mine"
    refused = httpx.post(f"{balanced.url}/qa", json=BODY | {"context": "x" * (Settings().max_body_bytes + 1)})
    assert (refused.status_code, refused.json()["code"]) == (413, "body_too_large")
    assert refused.headers["content-type"] == "application/problem+json"
    assert httpx.get(f"{balanced.url}/metrics").status_code == 404


def test_without_any_replica_callers_get_a_503_that_they_can_read(balanced: Balanced) -> None:
    for replica in balanced.replicas:
        replica.process.kill()
        replica.process.wait()
    refused = httpx.post(f"{balanced.url}/qa", json=BODY)
    assert (refused.status_code, refused.json()["code"]) == (503, "not_ready")
    assert refused.headers["retry-after"] == "1"
