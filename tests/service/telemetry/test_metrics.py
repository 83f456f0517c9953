from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from models.tasks.base import Usage
from models.tasks.bundle import Bundle, load_bundle
from models.tasks.qa import build as qa_task
from service.engine.model import Model
from service.telemetry.context import RequestContext
from service.telemetry.metrics import Metrics
from tests.service.conftest import FakeSession, zeros

TIMINGS = {
    "queue": 0.04,
    "tokenization": 0.2,
    "inference": 3.0,
    "inference_wall": 3.1,
    "postprocess": 0.1,
    "total": 3.44,
}


@pytest.fixture
def metrics() -> Metrics:
    return Metrics([], queue_ms=lambda: 12.5, in_flight=lambda: 3)


def metrics_of(bundle: Bundle) -> Metrics:
    model = Model(bundle, qa_task(bundle), FakeSession(zeros), drift=0.02)
    return Metrics([model], queue_ms=lambda: 0, in_flight=lambda: 0)


def samples(metrics: Metrics) -> dict[str, float]:
    """By name and labels, as Prometheus writes them."""
    lines = metrics.exposition("")[0].decode().splitlines()
    return {name: float(value) for name, _, value in (line.rpartition(" ") for line in lines if line[0] != "#")}


def test_an_answered_request_is_counted_with_its_stages_tokens_and_windows(metrics: Metrics) -> None:
    usage = Usage(tokens_in=100, tokens_used=110, windows=2, truncated=False)
    metrics.answered(RequestContext("id-1", "qa", "qa-small", usage, TIMINGS), 200)
    told = samples(metrics)
    assert told['halfdepth_requests_total{model="qa-small",status="200",task="qa"}'] == 1
    assert told['halfdepth_input_tokens_sum{task="qa"}'] == 100
    assert told['halfdepth_windows_sum{task="qa"}'] == 2
    for stage, milliseconds in TIMINGS.items():
        assert told[f'halfdepth_stage_seconds_sum{{model="qa-small",stage="{stage}",task="qa"}}'] == pytest.approx(
            milliseconds / 1e3
        )
    assert told['halfdepth_stage_seconds_bucket{le="5e-05",model="qa-small",stage="queue",task="qa"}'] == 1


def test_a_refused_request_is_counted_by_its_status_alone(metrics: Metrics) -> None:
    metrics.answered(RequestContext("id-1", "classify"), 422)
    told = samples(metrics)
    assert told['halfdepth_requests_total{model="",status="422",task="classify"}'] == 1
    assert not [name for name in told if name.startswith(("halfdepth_stage", "halfdepth_input", "halfdepth_win"))]


def test_requests_to_other_routes_are_not_counted(metrics: Metrics) -> None:
    metrics.answered(RequestContext("id-1"), 404)
    assert not [name for name in samples(metrics) if name.startswith("halfdepth_requests")]


def test_queue_and_requests_in_flight_are_asked_for_at_each_scrape() -> None:
    values = iter([1.0, 2.0])
    metrics = Metrics([], queue_ms=lambda: next(values), in_flight=lambda: 0)
    assert [samples(metrics)["halfdepth_queue_ms"] for _ in range(2)] == [1.0, 2.0]


def test_dropped_work_is_told(metrics: Metrics) -> None:
    metrics.dropped("qa", "client_gone")
    told = samples(metrics)
    assert told['halfdepth_dropped_total{reason="client_gone",task="qa"}'] == 1


def test_models_and_their_drift_are_told(bundles: Path) -> None:
    bundle = load_bundle(bundles / "qa")
    told = samples(metrics_of(bundle))
    assert told['halfdepth_int8_drift{model="qa",task="qa"}'] == 0.02
    assert told[f'halfdepth_model_info{{name="qa",precision="fp32",revision="{bundle.revision}",task="qa"}}'] == 1


def test_every_name_is_the_documented_one(bundles: Path) -> None:
    metrics = metrics_of(load_bundle(bundles / "qa"))
    usage = Usage(tokens_in=1, tokens_used=1, windows=1, truncated=False)
    metrics.answered(RequestContext("id-1", "qa", "qa-small", usage, TIMINGS), 200)
    metrics.dropped("qa", "deadline")
    families = text_string_to_metric_families(metrics.exposition("")[0].decode())
    labels = {
        family.name: sorted(set(family.samples[0].labels) - {"le"})
        for family in families
        if family.samples and family.name.startswith("halfdepth_")
    }
    assert labels == {
        "halfdepth_requests": ["model", "status", "task"],
        "halfdepth_stage_seconds": ["model", "stage", "task"],
        "halfdepth_queue_ms": [],
        "halfdepth_in_flight": [],
        "halfdepth_input_tokens": ["task"],
        "halfdepth_windows": ["task"],
        "halfdepth_dropped": ["reason", "task"],
        "halfdepth_int8_drift": ["model", "task"],
        "halfdepth_model_info": ["name", "precision", "revision", "task"],
    }


def test_the_format_follows_what_is_accepted(metrics: Metrics) -> None:
    assert metrics.exposition("")[1].startswith("text/plain")
    assert metrics.exposition("application/openmetrics-text; version=1.0.0")[1].startswith("application/openmetrics")
