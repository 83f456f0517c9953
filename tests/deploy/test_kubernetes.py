"""The Kubernetes manifests: valid by the schemas of the API, and in agreement with the image and the service."""

import json
import os
import re
import subprocess
from collections.abc import Callable
from pathlib import Path

import kubernetes_validate
import pytest
import yaml

from models.tasks.remote.address import PREFIX
from service.http.gate import OPEN
from service.settings import Settings
from tests.deploy.manifests import (
    CUSTOM,
    DEPLOY,
    DOCKERFILE,
    VERSION,
    Resource,
    container,
    image_variables,
    injected,
    only,
    proxy_read_timeout_s,
    resources,
)

KUBERNETES = DEPLOY / "kubernetes"
OVERLAYS = ("latency", "throughput")
BASE = [resource for _, resource in resources(KUBERNETES / "base")]
DEPLOYMENT, SERVICE = only(BASE, "Deployment"), only(BASE, "Service")
SCHEMAS = Path(__file__).with_name("kubernetes_models")
INSTALL_S = 600
PARTIAL = "cores.yaml"  # patches lack what the whole has


def validate(resource: Resource) -> None:
    """Raises: kubernetes_validate.ValidationError, also for fields that the API does not know."""
    kubernetes_validate.validate(resource, kubernetes_validate.latest_version(), strict=True)


@pytest.mark.parametrize(
    "resource",
    [
        pytest.param(resource, id=str(path.relative_to(KUBERNETES)))
        for path, resource in resources(KUBERNETES)
        if resource["kind"] not in CUSTOM and path.name != PARTIAL
    ],
)
def test_every_manifest_is_valid_by_the_schemas_of_the_api(resource: Resource) -> None:
    validate(resource)


def test_a_misspelt_field_of_a_manifest_is_noticed() -> None:
    misspelt = json.loads(json.dumps(DEPLOYMENT).replace("failureThreshold", "failureTreshold"))
    with pytest.raises(kubernetes_validate.ValidationError):
        validate(misspelt)


# --- in agreement: what a Deployment has to be, before and after its overlays


def has_time_to_drain(deployment: Resource) -> None:
    pod = deployment["spec"]["template"]["spec"]
    [_, pause] = container(deployment)["lifecycle"]["preStop"]["exec"]["command"]
    drain = next(v["value"] for v in container(deployment)["env"] if v["name"] == f"{PREFIX}DRAIN_SECONDS")
    slow_reader = Settings.model_fields["read_timeout_seconds"].default
    needed = float(pause) + float(drain) + proxy_read_timeout_s() + slow_reader
    assert pod["terminationGracePeriodSeconds"] >= needed


def is_probed_where_the_service_answers_without_a_key(deployment: Resource) -> None:
    main = container(deployment)
    [port] = main["ports"]
    for name in ("startupProbe", "readinessProbe", "livenessProbe"):
        assert main[name]["httpGet"]["path"] in OPEN
        assert main[name]["httpGet"]["port"] == port["name"]
    assert main["livenessProbe"]["httpGet"]["path"] == "/health/live"
    assert main["readinessProbe"]["httpGet"]["path"] == "/health/ready"


def runs_as_the_image_s_user_and_writes_nothing(deployment: Resource) -> None:
    pod, main = deployment["spec"]["template"]["spec"]["securityContext"], container(deployment)["securityContext"]
    [user] = re.findall(r"^USER (\d+)$", DOCKERFILE, re.MULTILINE)
    assert pod["runAsUser"] == pod["runAsGroup"] == int(user)
    assert pod["runAsNonRoot"] is True
    assert pod["seccompProfile"] == {"type": "RuntimeDefault"}
    assert main["readOnlyRootFilesystem"] is True
    assert main["allowPrivilegeEscalation"] is False
    assert main["capabilities"] == {"drop": ["ALL"]}


def has_as_many_threads_as_whole_cores(deployment: Resource) -> None:
    main = container(deployment)
    requests, limits = main["resources"]["requests"], main["resources"]["limits"]
    assert requests["cpu"].isdigit(), "whole cores"
    assert limits.get("cpu", requests["cpu"]) == requests["cpu"]
    assert limits["memory"] == requests["memory"]
    [threads] = [variable for variable in main["env"] if variable["name"] == f"{PREFIX}THREADS"]
    assert threads["valueFrom"] == {"resourceFieldRef": {"resource": "requests.cpu"}}


def sets_only_what_the_service_reads(deployment: Resource) -> None:
    names = {variable["name"] for variable in container(deployment)["env"]}
    assert names <= {PREFIX + field.upper() for field in Settings.model_fields}


CHECKS = [
    has_time_to_drain,
    is_probed_where_the_service_answers_without_a_key,
    runs_as_the_image_s_user_and_writes_nothing,
    has_as_many_threads_as_whole_cores,
    sets_only_what_the_service_reads,
]


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_the_deployment_agrees_with_image_and_service(check: Callable[[Resource], None]) -> None:
    check(DEPLOYMENT)


def test_the_port_is_the_image_s_everywhere() -> None:
    [port] = container(DEPLOYMENT)["ports"]
    [exposed] = re.findall(r"^EXPOSE (\d+)$", DOCKERFILE, re.MULTILINE)
    assert str(port["containerPort"]) == exposed == image_variables()["HALFDEPTH_PORT"]
    [service_port] = SERVICE["spec"]["ports"]
    assert service_port["targetPort"] == port["name"]
    [rule] = only(BASE, "NetworkPolicy")["spec"]["ingress"]
    assert [each["port"] for each in rule["ports"]] == [port["name"]]


def test_every_selector_finds_the_pods_and_every_scaler_the_deployment() -> None:
    labels = DEPLOYMENT["spec"]["template"]["metadata"]["labels"]
    specs = [DEPLOYMENT["spec"]["selector"], only(BASE, "PodDisruptionBudget")["spec"]["selector"]]
    specs.append(only(BASE, "NetworkPolicy")["spec"]["podSelector"])
    specs += [each["labelSelector"] for each in DEPLOYMENT["spec"]["template"]["spec"]["topologySpreadConstraints"]]
    assert all(spec["matchLabels"].items() <= labels.items() for spec in specs)
    assert SERVICE["spec"]["selector"].items() <= labels.items()
    parts = [resource for _, resource in resources(KUBERNETES / "components")]
    assert only(parts, "ServiceMonitor")["spec"]["selector"]["matchLabels"] == SERVICE["metadata"]["labels"]
    for kind in ("HorizontalPodAutoscaler", "ScaledObject"):
        assert only(parts, kind)["spec"]["scaleTargetRef"]["name"] == DEPLOYMENT["metadata"]["name"]


def test_prometheus_scrapes_the_named_port_as_the_job_that_alerts_ask_for() -> None:
    monitor = only([resource for _, resource in resources(KUBERNETES / "components")], "ServiceMonitor")["spec"]
    [endpoint] = monitor["endpoints"]
    assert endpoint["port"] == SERVICE["spec"]["ports"][0]["name"]
    assert endpoint["path"] in OPEN
    assert SERVICE["metadata"]["labels"][monitor["jobLabel"]] == "halfdepth"


def test_the_image_s_tag_is_this_version() -> None:
    kustomization = only(BASE, "Kustomization")
    assert kustomization["images"][0]["newTag"] == VERSION
    assert kustomization["images"][0]["name"] == container(DEPLOYMENT)["image"]


def test_variables_of_the_service_itself_do_not_change_the_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    own = {each["name"]: each.get("value", "1") for each in container(DEPLOYMENT)["env"]}
    variables = injected(SERVICE)
    assert variables["HALFDEPTH_PORT"].startswith("tcp://")  # goes over the image's own HALFDEPTH_PORT=8000
    for name, value in (image_variables() | variables | own).items():
        monkeypatch.setenv(name, value)
    settings = Settings()
    assert settings.port == container(DEPLOYMENT)["ports"][0]["containerPort"]
    assert (settings.host, settings.threads, settings.drain_seconds) == ("0.0.0.0", 1, 10)


# --- as kubectl puts them together


@pytest.fixture(scope="module", params=OVERLAYS)
def rendered(request: pytest.FixtureRequest) -> list[Resource]:
    command = ["kubectl", "kustomize", str(KUBERNETES / "overlays" / request.param)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, ""), done.stderr  # no deprecated field either
    return list(yaml.safe_load_all(done.stdout))


@pytest.fixture(scope="session")
def schemas(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with the schemas of KEDA and of the Prometheus operator, and the script that asks them."""
    path = tmp_path_factory.mktemp("kubernetes_models")
    for file in SCHEMAS.iterdir():
        (path / file.name).write_bytes(file.read_bytes())
    command = ["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund"]
    subprocess.run(command, cwd=path, check=True, timeout=INSTALL_S, env={**os.environ, "HOME": str(path)})
    return path


@pytest.mark.system
def test_an_overlay_is_valid_and_agrees_with_image_and_service(rendered: list[Resource]) -> None:
    for resource in rendered:
        if resource["kind"] not in CUSTOM:
            validate(resource)
    deployment = only(rendered, "Deployment")
    for check in CHECKS:
        check(deployment)
    assert "replicas" not in deployment["spec"], "the autoscaler's"
    assert container(deployment)["image"] == f"halfdepth:{VERSION}"
    assert {"HorizontalPodAutoscaler", "ScaledObject"} & {resource["kind"] for resource in rendered}


@pytest.mark.system
def test_resources_of_operators_are_valid_by_their_own_schemas(schemas: Path) -> None:
    custom = [resource for _, resource in resources(KUBERNETES / "components") if resource["kind"] in CUSTOM]
    custom = [resource for resource in custom if resource["kind"] != "Component"]
    custom.append(prometheus_rule())
    assert len(custom) == 3
    validated = validate_custom(schemas, custom)
    assert validated.returncode == 0, validated.stdout + validated.stderr


def prometheus_rule() -> Resource:
    """What the manual's command gives to `kubectl apply`."""
    manual = (DEPLOY.parent / "docs" / "operations.md").read_text()
    [command] = re.findall(r"^```bash\n(repository=\S+\n\{ printf .*?)^```", manual, re.MULTILINE | re.DOTALL)
    command, _, apply = command.rpartition(" | ")
    assert apply == "kubectl apply --filename -\n"
    done = subprocess.run(["bash", "-euc", command], cwd=DEPLOY.parent, capture_output=True, text=True, check=True)
    rule: Resource = yaml.safe_load(done.stdout)
    groups = yaml.safe_load((DEPLOY / "prometheus" / "alerts.yml").read_text())["groups"]
    assert [group["name"] for group in rule["spec"]["groups"]] == [group["name"] for group in groups]
    return rule


@pytest.mark.system
def test_a_misspelt_field_of_an_operator_s_resource_is_noticed(schemas: Path) -> None:
    parts = [resource for _, resource in resources(KUBERNETES / "components")]
    misspelt = json.loads(json.dumps(only(parts, "ServiceMonitor")).replace("scrapeTimeout", "scrapTimeout"))
    refused = validate_custom(schemas, [misspelt])
    assert refused.returncode != 0
    assert "scrapTimeout" in refused.stdout


def validate_custom(schemas: Path, custom: list[Resource]) -> "subprocess.CompletedProcess[str]":
    command = ["node", "validate.mjs"]
    return subprocess.run(command, cwd=schemas, input=json.dumps(custom), capture_output=True, text=True, check=False)
