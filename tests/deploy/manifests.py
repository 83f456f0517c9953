"""What deploy/ says, read from its files, and the facts of the image and the service that it has to agree with."""

import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from tests.server import ROOT

DEPLOY = ROOT / "deploy"
DOCKERFILE = (ROOT / "Dockerfile").read_text()
VERSION: str = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
Resource = dict[str, Any]  # YAML
CUSTOM = {"Kustomization", "Component", "ScaledObject", "ServiceMonitor"}  # kinds that the API's own schemas lack


def resources(folder: Path) -> Iterator[tuple[Path, Resource]]:
    """Every document of the YAML files under a folder, patches included."""
    for path in sorted(folder.rglob("*.yaml")):
        for document in yaml.safe_load_all(path.read_text()):
            yield path, document


def only(found: list[Resource], kind: str) -> Resource:
    [resource] = [resource for resource in found if resource["kind"] == kind]
    return resource


def container(deployment: Resource) -> Resource:
    [found] = deployment["spec"]["template"]["spec"]["containers"]
    result: Resource = found
    return result


def image_variables() -> dict[str, str]:
    """Those that the Dockerfile sets for the service, in its last stage."""
    [line] = re.findall(r"^ENV (.*)$", DOCKERFILE.rpartition("\nFROM ")[2], re.MULTILINE)
    return dict(part.split("=", 1) for part in line.split())


def proxy_read_timeout_s() -> int:
    """The longest request that anybody waits for, as our own proxy has it."""
    [seconds] = re.findall(r"proxy_read_timeout (\d+)s;", (DEPLOY / "nginx.conf").read_text())
    return int(seconds)


def injected(service: Resource, address: str = "10.96.3.7") -> dict[str, str]:
    """The variables that a kubelet gives every pod for this Service (pkg/kubelet/envvars)."""
    prefix = service["metadata"]["name"].upper().replace("-", "_")
    first, *_ = ports = service["spec"]["ports"]
    variables = {
        f"{prefix}_SERVICE_HOST": address,
        f"{prefix}_SERVICE_PORT": str(first["port"]),
        f"{prefix}_PORT": f"tcp://{address}:{first['port']}",
    }
    for port in ports:
        name, number = port["name"].upper().replace("-", "_"), port["port"]
        stem = f"{prefix}_PORT_{number}_TCP"
        variables |= {
            f"{prefix}_SERVICE_PORT_{name}": str(number),
            stem: f"tcp://{address}:{number}",
            f"{stem}_PROTO": "tcp",
            f"{stem}_PORT": str(number),
            f"{stem}_ADDR": address,
        }
    return variables
