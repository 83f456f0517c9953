"""The container image, built from a clean clone and run as its own user on a read-only root."""

import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from importlib.metadata import distributions
from pathlib import Path
from typing import Any

import pytest
from packaging.utils import canonicalize_name

from tests.container import Container, Image, Workshop, running, workshop
from tests.deploy.manifests import DEPLOY, Resource, injected, only, resources
from tests.server import ROOT
from tests.service.conftest import CONFIGS, write_bundle
from tests.test_lock import locked

pytestmark = pytest.mark.system

MOST_MEGABYTES = 430
LAYERS = {"dependencies": "opt/halfdepth", "bundles": "bundles", "code": "app"}
REQUESTS = {
    "qa": {"question": "Who repaired the lamp?", "context": "The storm put out the lamp. Maria Jensen repaired it."},
    "classify": {"text": "A quiet, generous film."},
    "rerank": {"query": "Who repaired the lamp?", "documents": ["The storm put it out.", "Maria Jensen repaired it."]},
    "similarity": {"source": "A man plays the guitar.", "targets": ["Someone plays an instrument.", "Stocks fell."]},
}
ASK = """
import sys, urllib.request
headers = {"content-type": "application/json"}
request = urllib.request.Request("http://127.0.0.1:8000/" + sys.argv[1], sys.argv[2].encode() or None, headers)
sys.stdout.write(urllib.request.urlopen(request).read().decode())
"""


def ask(container: Container, route: str, body: object = None) -> dict[str, Any]:  # JSON
    """From inside, for outside there is no way to it."""
    python = container.image.config["Entrypoint"][0]
    done = container.execute(python, "-c", ASK, route, json.dumps(body) if body else "")
    assert done.returncode == 0, done.stderr
    reply: dict[str, Any] = json.loads(done.stdout)
    return reply


@pytest.fixture(scope="module")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("image") / "clone"
    subprocess.run(["git", "clone", "--quiet", ROOT, path], check=True)
    return path


@pytest.fixture(scope="module")
def shop() -> Iterator[Workshop]:
    with tempfile.TemporaryDirectory() as work, workshop(Path(work)) as shop:
        yield shop


@pytest.fixture(scope="module")
def image(shop: Workshop, clone: Path) -> Image:
    return shop.build(clone)


@pytest.fixture(scope="module")
def container(image: Image) -> Iterator[Container]:
    with running(image) as container:
        yield container


def test_the_image_is_no_larger_than_it_may_be(image: Image, capsys: pytest.CaptureFixture[str]) -> None:
    layers = {name: image.megabytes(part) for name, part in LAYERS.items()}
    whole = image.megabytes()
    weights = {"base": whole - sum(layers.values()), **layers, "whole": whole}
    with capsys.disabled():  # what `make image-test` is run for
        line = ", ".join(f"{name} {size:.1f}" for name, size in weights.items())
        sys.stdout.write(f"\nMB unpacked: {line}\n")
    assert whole <= MOST_MEGABYTES


def test_the_image_holds_the_serving_dependencies_and_no_compiler(image: Image) -> None:
    installed = {path.name for path in image.root.glob("opt/halfdepth/lib/python3*/site-packages/*")}
    assert {"onnxruntime", "uvicorn"} <= installed
    assert not installed & {"torch", "transformers", "onnx", "pip"}
    assert not [path for path in image.root.glob("usr/bin/*") if path.name in {"cc", "gcc", "c++", "make"}]
    assert sorted(path.name for path in (image.root / "app").iterdir()) == ["models", "service"]


def test_the_image_holds_the_libraries_of_the_lock_file_and_no_other(image: Image) -> None:
    [site] = image.root.glob("opt/halfdepth/lib/python3*/site-packages")
    installed = {canonicalize_name(library.name): library.version for library in distributions(path=[str(site)])}
    assert installed.keys() - locked().keys() == {"halfdepth"}
    assert locked().items() - installed.items() == {("setuptools", locked()["setuptools"])}  # it only builds


def test_its_labels_say_what_it_is(image: Image) -> None:
    labels = image.config["Labels"]
    assert labels["org.opencontainers.image.title"] == "halfdepth"
    assert labels["org.opencontainers.image.licenses"] == "Apache-2.0"
    assert {f"org.opencontainers.image.{name}" for name in ("description", "version", "revision")} <= set(labels)


def test_its_bytecode_is_kept_by_the_hash_of_its_source(image: Image) -> None:
    """By the time, it would differ from build to build, and be of no use where times are rewritten."""
    compiled = [*image.root.glob("app/**/*.pyc"), *image.root.glob("opt/halfdepth/**/*.pyc")]
    assert len(compiled) > 100
    assert {int.from_bytes(path.read_bytes()[4:8], "little") for path in compiled} == {1}  # PEP 552: unchecked hash
    assert {path.name.split(".")[0] for path in compiled} >= {"session", "healthcheck", "applications"}


def test_a_second_build_has_the_same_layers(image: Image, shop: Workshop, clone: Path) -> None:
    assert shop.build(clone).layers == image.layers


def test_kubernetes_can_pause_before_it_stops(container: Container) -> None:
    command = manifest("Deployment")["spec"]["template"]["spec"]["containers"][0]["lifecycle"]["preStop"]["exec"][
        "command"
    ]
    assert container.execute(command[0], "0").returncode == 0


def test_it_starts_with_the_variables_of_its_own_kubernetes_service(image: Image) -> None:
    variables = injected(manifest("Service"))
    assert variables["HALFDEPTH_PORT"].startswith("tcp://")
    with running(image, variables=variables) as container:
        assert ask(container, "health/ready") == {"status": "ok"}


def manifest(kind: str) -> Resource:
    return only([resource for _, resource in resources(DEPLOY / "kubernetes" / "base")], kind)


def test_it_answers_every_task_of_its_bundles_from_inside(container: Container) -> None:
    bundles = ask(container, "info")["bundles"]
    assert {bundle["directory"] for bundle in bundles} == {path.name for path in (ROOT / "bundles").iterdir()}
    for task in {bundle["task"] for bundle in bundles}:
        assert ask(container, task, REQUESTS[task])["model"]["precision"] == "int8"
    assert ask(container, "qa", REQUESTS["qa"])["answers"][0]["text"] == "Maria Jensen"


def test_other_bundles_can_be_mounted_over_its_own(image: Image, tmp_path: Path) -> None:
    tmp_path.chmod(0o755)  # pytest's directories are for their owner alone
    for task in CONFIGS:
        write_bundle(tmp_path / task, task)
    with running(image, tmp_path) as container:
        for route, body in REQUESTS.items():
            assert ask(container, route, body)["model"]["precision"] == "fp32"


def test_it_runs_as_its_own_user_on_a_root_that_nobody_can_write(container: Container) -> None:
    status = Path(f"/proc/{container.pid}/status").read_text()
    assert "\nUid:\t10001\t10001\t10001\t10001\n" in status
    for path in ("/app/new", "/bundles/new", "/tmp/new"):
        refused = container.execute("touch", path, user="0:0")
        assert "Read-only file system" in refused.stderr


def test_its_health_check_needs_nothing_but_python(container: Container) -> None:
    kind, *command = container.image.config["Healthcheck"]["Test"]
    assert kind == "CMD"
    healthy = container.execute(*command)
    assert (healthy.returncode, healthy.stderr) == (0, "")


def test_the_doctor_examines_it_from_inside(container: Container) -> None:
    done = container.execute(container.image.config["Entrypoint"][0], "-m", "service.doctor", "--json")
    assert done.returncode in (0, 1), done.stderr
    findings = {finding["subject"]: finding for finding in json.loads(done.stdout)["findings"]}
    for path in (ROOT / "bundles").iterdir():
        finding = findings[f"bundle {path.name}"]  # which asks for another machine where byte products saturate
        assert finding["status"] == "ok" or "exact products would be served" in finding["advice"]


def test_sigterm_reaches_it_and_it_ends_well(image: Image) -> None:
    with running(image) as container:
        os.kill(container.pid, signal.SIGTERM)
        assert container.process.wait() == 0
