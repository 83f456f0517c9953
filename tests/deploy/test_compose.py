"""The Compose file: valid by its specification, and in agreement with nginx, the image and the service."""

import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from models.tasks.remote.address import PREFIX
from service.settings import Settings
from tests.deploy.manifests import DEPLOY, DOCKERFILE, VERSION, image_variables, proxy_read_timeout_s

FILE = DEPLOY / "compose.yaml"
COMPOSE: dict[str, Any] = yaml.safe_load(FILE.read_text())  # YAML
SERVICES = COMPOSE["services"]
REPLICAS = {name: service for name, service in SERVICES.items() if name.startswith("replica")}
NGINX = SERVICES["nginx"]
ADDRESSES = re.findall(r"^server ([\d.]+):(\d+) max_fails=0;$", COMPOSE["configs"]["replicas"]["content"], re.MULTILINE)


def validate(path: Path) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.compose-spec", str(path)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_it_is_valid_by_the_specification_of_compose() -> None:
    done = validate(FILE)
    assert done.returncode == 0, done.stdout


def test_a_misspelt_key_is_noticed(tmp_path: Path) -> None:
    (tmp_path / "compose.yaml").write_text(FILE.read_text().replace("cpuset", "cpu_set"))
    assert "cpu_set" in validate(tmp_path / "compose.yaml").stdout


def test_every_replica_has_cores_of_its_own_and_as_many_threads() -> None:
    cores = [service["cpuset"] for service in REPLICAS.values()]
    assert len(set(cores)) == len(cores) == 2
    for service in REPLICAS.values():
        assert service["environment"][f"{PREFIX}THREADS"] == str(len(service["cpuset"].split(",")))


def test_nginx_balances_every_replica_at_its_address_and_port() -> None:
    port = image_variables()["HALFDEPTH_PORT"]
    networks = [service["networks"]["halfdepth"]["ipv4_address"] for service in REPLICAS.values()]
    assert [(address, port) for address in networks] == ADDRESSES
    assert NGINX["depends_on"] == {name: {"condition": "service_healthy"} for name in REPLICAS}
    assert NGINX["configs"][0]["target"] == "/etc/nginx/replicas.conf"


def test_nginx_listens_where_it_is_published_and_asked_for_its_health() -> None:
    [listening] = re.findall(r"listen (\d+);", (DEPLOY / "nginx.conf").read_text())
    assert NGINX["ports"] == [f"{listening}:{listening}"]
    assert NGINX["healthcheck"]["test"][-1] == f"http://127.0.0.1:{listening}/health/ready"
    [volume] = NGINX["volumes"]
    source, target, mode = volume.split(":")
    assert (DEPLOY / source).is_file()
    assert Path(target).parent == Path(NGINX["configs"][0]["target"]).parent  # where `include` looks
    assert mode == "ro"


def test_prometheus_finds_every_replica_where_it_is_published() -> None:
    configuration = yaml.safe_load((DEPLOY / "prometheus" / "prometheus.yml").read_text())
    targets = configuration["scrape_configs"][0]["static_configs"][0]["targets"]
    published = [service["ports"][0] for service in REPLICAS.values()]
    assert published == [f"{target}:{image_variables()['HALFDEPTH_PORT']}" for target in targets]


def test_stopping_waits_for_the_longest_request() -> None:
    slow_reader = Settings.model_fields["read_timeout_seconds"].default
    for service in REPLICAS.values():
        needed = float(service["environment"][f"{PREFIX}DRAIN_SECONDS"]) + proxy_read_timeout_s() + slow_reader
        assert float(service["stop_grace_period"].removesuffix("s")) >= needed


@pytest.mark.parametrize("name", SERVICES)
def test_every_container_is_read_only_and_may_do_nothing_special(name: str) -> None:
    service = SERVICES[name]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert service["mem_limit"]


def test_replicas_run_this_version_with_the_image_s_own_health_check() -> None:
    assert "HEALTHCHECK" in DOCKERFILE
    for service in REPLICAS.values():
        assert service["image"] == f"halfdepth:{VERSION}"
        assert "test" not in service["healthcheck"]
        assert set(service["environment"]) <= {PREFIX + field.upper() for field in Settings.model_fields}


@pytest.mark.system
def test_nginx_accepts_its_configuration_with_these_replicas(tmp_path: Path) -> None:
    configuration = (DEPLOY / "nginx.conf").read_text().replace("/dev/stdout", str(tmp_path / "access.log"))
    (tmp_path / "nginx.conf").write_text(configuration)
    (tmp_path / "replicas.conf").write_text(COMPOSE["configs"]["replicas"]["content"])
    nginx = shutil.which("nginx", path="/usr/sbin:/usr/bin")
    assert nginx
    files = f"pid {tmp_path}/nginx.pid; error_log {tmp_path}/error.log;"
    command = [nginx, "-t", "-p", str(tmp_path), "-c", str(tmp_path / "nginx.conf"), "-g", files]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
