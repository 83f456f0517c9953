"""The extra `ray`, in an environment of its own: the service on a local cluster, and a batch by Ray Data."""

import base64
import json
import os
import subprocess
import sys
import time
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from loadtest.process import free_port
from tests.server import ROOT, serve

pytestmark = pytest.mark.system

CONSTRAINTS = Path(__file__).with_name("ray.txt")
INSTALL_S, RUN_S = 900, 600
QUESTION: dict[str, object] = {
    "question": "Who built the lighthouse?",
    "context": "The lighthouse was built in 1871 by Anna Lindqvist.",
}
ASKED: list[tuple[str, dict[str, object]]] = [
    ("/qa", QUESTION),
    ("/qa", {"inputs": [QUESTION, QUESTION | {"top_k": 3}]}),
    ("/classify", {"text": "A film that is as warm as it is wise.", "top_k": 2}),
    ("/embed", {"inputs": ["A man is playing a guitar."]}),
    ("/v2/models/qa/infer", {"inputs": []}),
    ("/qa", {"question": "Who?"}),
]
CLIENTS = 8
CLUSTER = """
import base64, json, os, pathlib, signal, sys, threading, time
from urllib.error import HTTPError
from urllib.request import ProxyHandler, Request, build_opener
import ray
from ray import serve
from service.ray_app import RayOptions, application

bundles, port, asked, question, clients = json.loads(sys.argv[1])
opener = build_opener(ProxyHandler({}))

def post(path, body, **headers):
    data = json.dumps(body).encode()
    request = Request(f"http://127.0.0.1:{port}{path}", data, {"content-type": "application/json", **headers})
    try:
        with opener.open(request, timeout=60) as answer:
            return answer.status, answer.read(), answer.headers
    except HTTPError as error:
        return error.code, error.read(), error.headers

def running():
    return serve.status().applications["halfdepth"].deployments["halfdepth"].replica_states.get("RUNNING", 0)

def wait_for(condition, seconds=180):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.2)

def replicas():
    # Processes of this cluster: those that descend from this one.
    found, parents = [], {}
    for entry in filter(str.isdigit, os.listdir("/proc")):
        try:
            stat = open(f"/proc/{entry}/stat").read()
            title = open(f"/proc/{entry}/cmdline").read()
        except OSError:
            continue
        parents[int(entry)] = int(stat.rpartition(")")[2].split()[1])
        if title.startswith("ray::ServeReplica:halfdepth"):
            found.append(int(entry))
    def is_ours(pid):
        return pid == os.getpid() or (pid in parents and pid > 1 and is_ours(parents[pid]))
    return [pid for pid in found if is_ours(pid)]

failures, answered, ended = [0] * clients, [0] * clients, threading.Event()

def load(number):
    while not ended.is_set():
        try:
            status, _, _ = post("/qa", question | {"context": question["context"] * 20})
        except OSError:
            status = 0
        failures[number] += status != 200
        answered[number] += status == 200

ray.init(num_cpus=3, include_dashboard=False, log_to_driver=False)
serve.start(http_options={"host": "127.0.0.1", "port": port})
options = RayOptions(bundles=bundles, max_replicas=2, upscale_delay_s=0.5, downscale_delay_s=600)
serve.run(application(options), name="halfdepth", route_prefix="/")
told = {"answers": []}
for path, body in asked:
    status, content, headers = post(path, body, **{"X-Request-ID": "mine"})
    told["answers"].append([status, base64.b64encode(content).decode(), headers.get_all("x-request-id")])
told["late"] = post("/qa", question, **{"X-Deadline-Ms": "0.001"})[0]
for path in ("/qa", "/qa?canary=canary", "/canary", "/v2/models/canary/infer"):
    for body in ({"question": "canary", "context": "canary"}, {"canary canary": "canary"}):
        post(path, body, Cookie="canary", Authorization="Bearer canary")
told["at_first"] = running()
threads = [threading.Thread(target=load, args=(number,)) for number in range(clients)]
for thread in threads:
    thread.start()
wait_for(lambda: running() == 2 and len(replicas()) == 2)
told["under_load"] = running()
told["failures_before"] = sum(failures)
failures[:] = [0] * clients
os.kill(replicas()[0], signal.SIGKILL)
time.sleep(3)
told["failures_after_the_kill"] = list(failures)
wait_for(lambda: running() == 2 and len(replicas()) == 2)
answered[:] = [0] * clients
wait_for(lambda: min(answered) > 3)
ended.set()
for thread in threads:
    thread.join()
told["failures_at_the_end"] = list(failures)
serve.shutdown()
logs = pathlib.Path(ray._private.worker._global_node.get_session_dir_path(), "logs")
ray.shutdown()
texts = [path.read_text(errors="replace") for path in logs.rglob("*") if path.is_file()]
told["log_lines"] = sum(text.count(" POST ") for text in texts)
told["quoting"] = [line for text in texts for line in text.splitlines() if "canary" in line]
print("TOLD " + json.dumps(told))
"""


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The interpreter of an environment with the extra `ray` and nothing else."""
    directory = tmp_path_factory.mktemp("ray")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", directory], check=True)
    path = directory / "bin" / "python"
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    requirements = [*project["dependencies"], *project["optional-dependencies"]["ray"]]
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--python", str(path)]
    install = [*pip, "install", "--quiet", "--no-compile", "-c", str(CONSTRAINTS), *requirements]
    subprocess.run(install, check=True, timeout=INSTALL_S)
    subprocess.run([*pip, "check"], check=True)
    return path


def environment() -> dict[str, str]:
    return os.environ | {"PYTHONPATH": str(ROOT), "RAY_USAGE_STATS_ENABLED": "0"}


def run(command: list[str], directory: Path) -> str:
    done = subprocess.run(
        command, cwd=directory, env=environment(), capture_output=True, text=True, check=False, timeout=RUN_S
    )
    assert done.returncode == 0, done.stderr[-5_000:]
    return done.stdout


@pytest.fixture(scope="module")
def told(python: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    arguments = json.dumps([str(ROOT / "bundles"), free_port(), ASKED, QUESTION, CLIENTS])
    output = run([str(python), "-c", CLUSTER, arguments], tmp_path_factory.mktemp("cluster"))
    [line] = [line for line in output.splitlines() if line.startswith("TOLD ")]
    return json.loads(line.removeprefix("TOLD "))


@pytest.fixture(scope="module")
def client() -> Iterator[httpx.Client]:
    with serve(ROOT / "bundles") as (_, url), httpx.Client(base_url=url, trust_env=False) as client:
        yield client


def without_times(content: bytes) -> bytes:
    parts = content.split(b'"timings_ms":{')
    return b'"timings_ms":{'.join([parts[0], *(part[part.index(b"}") :] for part in parts[1:])])


def test_a_cluster_answers_with_the_bytes_of_uvicorn_but_for_timings(told: Any, client: httpx.Client) -> None:
    for (path, body), (status, content, ids) in zip(ASKED, told["answers"], strict=True):
        expected = client.post(path, json=body, headers={"X-Request-ID": "mine"})
        assert (status, set(ids)) == (expected.status_code, {"mine"})
        assert without_times(base64.b64decode(content)) == without_times(expected.content)
    assert told["late"] == 504


def test_neither_its_logs_nor_ray_s_quote_a_caller(told: Any) -> None:
    assert told["log_lines"] > 100
    assert told["quoting"] == []


def test_under_load_there_is_a_second_replica(told: Any) -> None:
    assert (told["at_first"], told["under_load"], told["failures_before"]) == (1, 2, 0)


def test_a_replica_that_is_killed_loses_what_it_held_and_nothing_else(told: Any) -> None:
    assert max(told["failures_after_the_kill"]) <= 1  # each client has one request in flight
    assert told["failures_at_the_end"] == told["failures_after_the_kill"]


@pytest.fixture(scope="module")
def batch(python: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with `in.jsonl`, of many pieces, and `plain.jsonl`, what a batch without a cluster makes of it."""
    directory = tmp_path_factory.mktemp("batch")
    lines = [{"route": path, "id": n, "body": body} for n, (path, body) in enumerate(ASKED * 400)]
    (directory / "in.jsonl").write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    run(command_of(python, "plain.jsonl"), directory)
    return directory


def command_of(python: Path, out: str, *arguments: str) -> list[str]:
    bundles = ("--bundles", str(ROOT / "bundles"))
    return [str(python), str(ROOT / "halfdepth.py"), "batch", "in.jsonl", out, *bundles, *arguments]


def test_a_batch_on_a_cluster_gives_the_bytes_of_one_without(python: Path, batch: Path) -> None:
    cluster = command_of(python, "cluster.jsonl", "--ray", "local")
    run(cluster, batch)
    whole = (batch / "plain.jsonl").read_bytes()
    assert (batch / "cluster.jsonl").read_bytes() == whole


def test_a_batch_on_a_cluster_that_was_killed_goes_on_to_the_same_bytes(python: Path, batch: Path) -> None:
    cluster = command_of(python, "killed.jsonl", "--ray", "local")
    out = batch / "killed.jsonl"
    with (batch / "log").open("w") as log:
        child = subprocess.Popen(cluster, cwd=batch, env=environment(), stdout=log, stderr=log)
    try:
        while not (out.exists() and out.stat().st_size):
            assert child.poll() is None, (batch / "log").read_text()
            time.sleep(0.01)
    finally:
        child.kill()
        child.wait()
    before, whole = out.read_bytes(), (batch / "plain.jsonl").read_bytes()
    assert 0 < len(before) < len(whole)
    summary = json.loads(run(cluster, batch).splitlines()[-1])
    assert summary["there_already"] == before.count(b"\n")
    assert out.read_bytes() == whole
