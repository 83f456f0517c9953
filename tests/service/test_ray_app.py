"""A replica on Ray Serve, over a stand-in for Ray; tests/service/test_ray.py has the real one."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI
from pydantic import ValidationError
from starlette.testclient import TestClient

from service.engine.errors import NotReadyError
from tests.service.ray_standin import Cluster, installed


@pytest.fixture
def ray(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Cluster, Any]]:
    with installed("service.ray_app", monkeypatch) as (cluster, module):
        monkeypatch.setattr(module, "configure_logging", lambda _: None)
        yield cluster, module


def test_a_replica_answers_as_the_service_does(ray: tuple[Cluster, Any], bundles: Path) -> None:
    _, module = ray
    replica = module.Replica(module.RayOptions(bundles=bundles))
    app = replica.__serve_build_asgi_app__()
    assert not isinstance(app, FastAPI)
    with TestClient(app) as client:
        answer = client.post("/qa", json={"question": "where?", "context": "in Oslo"})
        assert [each["text"] for each in answer.json()["answers"]] == ["Oslo"]
        assert client.post("/qa", json={"question": "where?"}).json()["code"] == "invalid_request"


def test_a_replica_without_a_directory_takes_that_of_the_environment(
    ray: tuple[Cluster, Any], bundles: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cluster, module = ray
    monkeypatch.setenv("HALFDEPTH_BUNDLES", str(bundles / "qa"))
    monkeypatch.setenv("HALFDEPTH_THREADS", "2")
    module.Replica(module.RayOptions())
    [engine] = cluster.engines
    assert [model.bundle.task for model in engine.models] == ["qa"]
    assert engine.queue.cores == 1


def test_ray_replaces_a_replica_that_is_not_ready(ray: tuple[Cluster, Any], bundles: Path) -> None:
    cluster, module = ray
    replica = module.Replica(module.RayOptions(bundles=bundles))
    replica.check_health()
    cluster.engines[0].close()
    with pytest.raises(NotReadyError):
        replica.check_health()


def test_a_deployment_has_a_core_for_each_replica_and_the_options_numbers(ray: tuple[Cluster, Any]) -> None:
    _, module = ray
    options = module.RayOptions(min_replicas=2, max_replicas=6, upscale_delay_s=1, downscale_delay_s=9, drain_s=7)
    deployment = module.application(options)
    assert (deployment.replica, deployment.arguments) == (module.Replica, (options,))
    assert deployment.options["ray_actor_options"] == {"num_cpus": 1}
    assert deployment.options["graceful_shutdown_timeout_s"] == 7
    assert deployment.options["max_ongoing_requests"] == 16
    assert deployment.options["autoscaling_config"] == {
        "min_replicas": 2,
        "max_replicas": 6,
        "target_ongoing_requests": 2.0,
        "upscale_delay_s": 1,
        "downscale_delay_s": 9,
    }


def test_options_that_contradict_each_other_are_refused(ray: tuple[Cluster, Any]) -> None:
    with pytest.raises(ValidationError, match="min_replicas must be at most max_replicas"):
        ray[1].RayOptions(min_replicas=5)
    with pytest.raises(ValidationError, match="replicas"):
        ray[1].RayOptions(replicas=5)
