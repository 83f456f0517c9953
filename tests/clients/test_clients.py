"""Real clients in other languages, as they come: they offer HTTP/2, and keep connections in a pool."""

import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from loadtest.process import free_port
from tests.clients.balancer import balanced
from tests.server import ROOT, serve

pytestmark = pytest.mark.system

SOURCE = Path(__file__).with_name("Ask.java")
BODIES = {
    "/qa": {"question": "Who repaired the lamp?", "context": "The storm put out the lamp. Maria Jensen repaired it."},
    "/v1/embeddings": {"model": "any", "input": ["A man is playing a guitar."], "encoding_format": None},
}
EXPECTED = {"/qa": '"Maria Jensen"', "/v1/embeddings": '"embedding"'}
DRAIN_S, RESTARTS = 2, 3


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with serve(ROOT / "bundles") as (_, url):
        yield url


def run(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("path", BODIES)
def test_curl_that_offers_http_2_is_answered(url: str, path: str) -> None:
    fields = ["--header", "content-type: application/json", "--data", json.dumps(BODIES[path])]
    out = run("curl", "--silent", "--http2", "--write-out", " %{http_code} %{http_version}", f"{url}{path}", *fields)
    assert EXPECTED[path] in out
    assert out.endswith(" 200 1.1")


@pytest.mark.parametrize("path", BODIES)
def test_java_s_client_is_answered(url: str, path: str) -> None:
    out = run("java", str(SOURCE), f"{url}{path}", json.dumps(BODIES[path]))
    assert out.startswith("200 HTTP_1_1 ")
    assert EXPECTED[path] in out


def test_wget_s_spider_finds_a_service_that_is_ready(url: str) -> None:
    run("wget", "--quiet", "--spider", f"{url}/health/ready")


@pytest.mark.parametrize("path", BODIES)
def test_no_request_on_a_pooled_connection_fails_while_replicas_are_restarted(
    tmp_path: Path, path: str, capsys: pytest.CaptureFixture[str]
) -> None:
    ports = [free_port(), free_port()]

    def start(port: int, running: ExitStack) -> subprocess.Popen[str]:
        settings = {"PORT": str(port), "DRAIN_SECONDS": str(DRAIN_S)}
        process, _ = running.enter_context(serve(ROOT / "bundles", tmp_path / f"{port}.log", **settings))
        return process

    with ExitStack() as running:
        replicas = {port: start(port, running) for port in ports}
        with balanced(ports) as url:
            command = ["java", str(SOURCE), f"{url}{path}", json.dumps(BODIES[path]), "until its input is closed"]
            pipe = subprocess.PIPE
            client = subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, text=True)
            time.sleep(3)  # Java compiles, and fills its pool
            for number in range(RESTARTS):
                port = ports[number % 2]
                replicas[port].send_signal(signal.SIGTERM)
                assert replicas[port].wait(timeout=60) == 0
                replicas[port] = start(port, running)
                time.sleep(0.5)  # until the balancer has seen it
            out, errors = client.communicate(timeout=60)  # which closes its input
    with capsys.disabled():
        sys.stdout.write(f"\n{path}: {out.strip()}, {RESTARTS} restarts\n")
    answered, failed = (int(word) for word in out.split() if word.isdigit())
    assert (failed, errors) == (0, "")
    assert answered > 100
