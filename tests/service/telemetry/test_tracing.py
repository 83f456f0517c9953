import json
import logging
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, ALWAYS_ON, ParentBased
from opentelemetry.trace import SpanKind, StatusCode
from starlette.testclient import TestClient

from models.tasks.base import Features, Outputs
from service import app
from service.app import create_app
from service.settings import Settings
from service.telemetry import tracing
from service.telemetry.tracing import OneWarning, Tracing, is_asked_for, start_tracing
from tests.server import serve
from tests.service.conftest import FakeSession
from tests.service.telemetry.receiver import receiver

ITEM = {"question": "where?", "context": "she lives in Paris."}
TRACE, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
STAGES = ["queue", "tokenization", "inference", "postprocess"]
OPENMETRICS = {"Accept": "application/openmetrics-text; version=1.0.0"}


@pytest.fixture(autouse=True)
def no_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    import os

    for name in os.environ:
        if name.startswith("OTEL_"):
            monkeypatch.delenv(name)


def traced(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, sampler: Any = ALWAYS_ON
) -> tuple[TestClient, InMemorySpanExporter]:
    """A service whose spans are kept in this process."""
    exporter, provider = InMemorySpanExporter(), TracerProvider(sampler=sampler)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    monkeypatch.setattr(app, "start_tracing", lambda _environ: Tracing(provider.get_tracer("halfdepth")))
    return TestClient(create_app(settings)), exporter


@pytest.fixture
def spans(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[TestClient, InMemorySpanExporter]]:
    client, exporter = traced(settings, monkeypatch)
    with client:
        yield client, exporter


def fail(_window: Features) -> Outputs:
    raise RuntimeError("a graph that fails")


def by_name(exporter: InMemorySpanExporter) -> dict[str, Any]:
    return {span.name: span for span in exporter.get_finished_spans()}


def test_a_request_is_a_span_with_one_child_for_each_stage_at_its_real_time(
    spans: tuple[TestClient, InMemorySpanExporter],
) -> None:
    before = time.time_ns()
    timings = spans[0].post("/qa", json=ITEM, headers={"X-Request-ID": "mine"}).json()["timings_ms"]
    after = time.time_ns()
    found = by_name(spans[1])
    root = found["POST /qa"]
    assert root.kind is SpanKind.SERVER
    assert dict(root.attributes) == {
        "http.request.method": "POST",
        "http.route": "/qa",
        "http.response.status_code": 200,
        "url.scheme": "http",
        "url.path": "/qa",
        "network.protocol.version": "1.1",
        "halfdepth.request_id": "mine",
        "halfdepth.task": "qa",
        "halfdepth.model": "qa",
        "halfdepth.tokens_in": 10,
        "halfdepth.tokens_used": 10,
        "halfdepth.windows": 1,
        "halfdepth.truncated": False,
    }
    stages = [found[name] for name in STAGES]
    assert [span.parent.span_id for span in stages] == [root.context.span_id] * 4
    times = [time for span in stages for time in (span.start_time, span.end_time)]
    assert times == sorted(times)
    assert before <= root.start_time <= times[0]
    assert times[-1] <= root.end_time <= after
    for span in stages[1:]:
        field = "inference_wall" if span.name == "inference" else span.name
        assert (span.end_time - span.start_time) / 1e6 == pytest.approx(timings[field], abs=0.001)


def test_the_stages_of_a_list_are_those_of_all_its_inputs(spans: tuple[TestClient, InMemorySpanExporter]) -> None:
    timings = spans[0].post("/embed", json={"inputs": ["oslo", "paris"]}).json()["timings_ms"]
    found = by_name(spans[1])
    assert found["POST /embed"].attributes["halfdepth.windows"] == 2
    inference = found["inference"]
    assert (inference.end_time - inference.start_time) / 1e6 == pytest.approx(timings["inference_wall"], abs=0.001)
    assert [found[name].start_time for name in STAGES] == sorted(found[name].start_time for name in STAGES)


def test_the_caller_s_trace_goes_on(spans: tuple[TestClient, InMemorySpanExporter]) -> None:
    headers = {"traceparent": f"00-{TRACE}-{PARENT}-01", "tracestate": "vendor=1"}
    spans[0].post("/qa", json=ITEM, headers=headers)
    root = by_name(spans[1])["POST /qa"]
    assert f"{root.context.trace_id:032x}" == TRACE
    assert f"{root.parent.span_id:016x}" == PARENT
    assert root.context.trace_state.get("vendor") == "1"


@pytest.mark.parametrize("header", ["nonsense", f"00-{'0' * 32}-{PARENT}-01", f"00-{TRACE}-{PARENT}-01,"])
def test_a_malformed_traceparent_begins_a_trace_of_our_own(
    spans: tuple[TestClient, InMemorySpanExporter], header: str
) -> None:
    spans[0].post("/qa", json=ITEM, headers={"traceparent": header})
    root = by_name(spans[1])["POST /qa"]
    assert root.parent is None
    assert f"{root.context.trace_id:032x}" != TRACE


@pytest.mark.parametrize(("flag", "count"), [("01", 5), ("00", 0)])
def test_what_the_caller_does_not_sample_is_not_sampled(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, flag: str, count: int
) -> None:
    client, exporter = traced(settings, monkeypatch, ParentBased(ALWAYS_OFF))
    with client:
        client.post("/qa", json=ITEM, headers={"traceparent": f"00-{TRACE}-{PARENT}-{flag}"})
        metrics = client.get("/metrics", headers=OPENMETRICS).text
    assert len(exporter.get_finished_spans()) == count
    assert (f'trace_id="{TRACE}"' in metrics) is bool(count)


def test_refusals_and_failures_are_told_and_health_is_not(
    spans: tuple[TestClient, InMemorySpanExporter], monkeypatch: pytest.MonkeyPatch
) -> None:
    client, exporter = spans
    for path in ("/health/live", "/health/ready", "/health", "/ping", "/metrics"):
        client.get(path)
    assert exporter.get_finished_spans() == ()
    client.post("/qa", json={"question": "where is the secret?"})
    [refused] = exporter.get_finished_spans()
    assert refused.attributes["http.response.status_code"] == 422
    assert refused.attributes["halfdepth.code"] == "invalid_request"
    assert (refused.status.status_code, refused.attributes.get("error.type")) == (StatusCode.UNSET, None)
    exporter.clear()
    monkeypatch.setattr("models.tasks.session.OnnxSession.run", FakeSession(fail).run)
    client.post("/qa", json=ITEM)
    client.get("/a/secret/path")
    failed, nowhere = exporter.get_finished_spans()
    assert (failed.status.status_code, failed.attributes["error.type"]) == (StatusCode.ERROR, "inference_failed")
    assert (nowhere.name, nowhere.attributes["http.response.status_code"]) == ("GET", 404)
    assert "secret" not in f"{refused.to_json()}{nowhere.to_json()}"


def test_exemplars_stand_on_the_stages_in_openmetrics_alone_and_ids_in_the_log(
    spans: tuple[TestClient, InMemorySpanExporter], caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO, logger="service.access"):
        spans[0].post("/qa", json=ITEM)
    trace_id = f"{by_name(spans[1])['POST /qa'].context.trace_id:032x}"
    lines = spans[0].get("/metrics", headers=OPENMETRICS).text.splitlines()
    marked = [line for line in lines if "# {" in line]
    assert {line.partition("{")[0] for line in marked} == {"halfdepth_stage_seconds_bucket"}
    assert all(f'trace_id="{trace_id}"' in line for line in marked)
    assert len(marked) == len(STAGES) + 2  # inference, and the total
    assert "# {" not in spans[0].get("/metrics").text
    [record] = [record for record in caplog.records if record.message == "request"]
    assert vars(record)["data"]["trace_id"] == trace_id


@pytest.mark.parametrize(
    ("variables", "asked"),
    [
        ({}, False),
        ({"OTEL_SERVICE_NAME": "mine"}, False),
        ({"OTEL_TRACES_EXPORTER": "otlp"}, True),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://localhost:4318"}, True),
        ({"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://localhost:4318/v1/traces"}, True),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://localhost:4318", "OTEL_TRACES_EXPORTER": "none"}, False),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://localhost:4318", "OTEL_SDK_DISABLED": "TRUE"}, False),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": " "}, False),
    ],
)
def test_the_standard_variables_ask_for_traces(variables: dict[str, str], asked: bool) -> None:
    assert is_asked_for(variables) is asked


@pytest.mark.parametrize(
    ("variables", "installed", "reason"),
    [
        ({}, False, "not traced: OTEL_* variables ask for traces, and their libraries are not installed; pip install"),
        (
            {"OTEL_TRACES_EXPORTER": "zipkin"},
            True,
            "OTEL_TRACES_EXPORTER is zipkin, and this service has otlp and none",
        ),
        ({"OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"}, True, "the protocol grpc is not spoken here"),
    ],
)
def test_what_cannot_be_done_is_told_in_one_line(
    variables: dict[str, str],
    installed: bool,
    reason: str,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(tracing, "_is_installed", lambda: installed)
    assert start_tracing({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://localhost:4318"} | variables) is None
    [record] = caplog.records
    assert reason in record.message


def test_a_variable_that_the_sdk_refuses_does_not_stop_the_start(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("OTEL_BSP_MAX_QUEUE_SIZE", "-1")
    assert start_tracing({"OTEL_TRACES_EXPORTER": "otlp"}) is None
    assert "correct the OTEL_* variables" in caplog.records[-1].message


def test_an_exporter_that_fails_is_told_once_and_so_is_its_recovery(caplog: pytest.LogCaptureFixture) -> None:
    results = iter([False, False, True, True, False])

    class Exporter:
        def export(self, _spans: object) -> bool:
            return next(results)

    exporter = OneWarning(Exporter(), succeeds=True)
    with caplog.at_level(logging.INFO, logger=tracing.__name__):
        for _ in range(5):
            exporter.export([])
    assert [record.levelname for record in caplog.records] == ["WARNING", "INFO", "WARNING"]


def until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)


def test_a_real_server_sends_its_spans_to_a_receiver_and_the_last_ones_at_its_end(
    bundles: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "100")
    monkeypatch.setenv("OTEL_SERVICE_NAME", "tiny")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_COMPRESSION", "gzip")
    with receiver() as collector:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", collector.url)
        with serve(bundles, tmp_path / "log", DRAIN_SECONDS="0") as (process, url):
            httpx.post(f"{url}/qa", json=ITEM, headers={"traceparent": f"00-{TRACE}-{PARENT}-01"})
            until(lambda: len(collector.spans) == 5)
            httpx.post(f"{url}/classify", json={"text": "in Paris"})
            process.send_signal(signal.SIGTERM)
            assert process.wait(timeout=60) == 0
    assert {span.trace_id.hex() for span in collector.spans[:5]} == {TRACE}
    assert {span.name for span in collector.spans} == {"POST /qa", "POST /classify", *STAGES}
    assert collector.resources[0]["service.name"] == "tiny"


def test_requests_are_answered_while_nothing_takes_the_spans(
    bundles: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "50")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TIMEOUT", "1")
    with receiver() as collector:
        collector.status = 400
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", collector.url)
        with serve(bundles, tmp_path / "log", DRAIN_SECONDS="0") as (process, url):
            for _ in range(3):
                assert httpx.post(f"{url}/qa", json=ITEM).status_code == 200
                time.sleep(0.2)
            until(lambda: "cannot be exported" in (tmp_path / "log").read_text())
            process.send_signal(signal.SIGTERM)
            assert process.wait(timeout=60) == 0
    lines = [json.loads(line) for line in (tmp_path / "log").read_text().splitlines()]
    warnings = [line for line in lines if line["level"] in ("WARNING", "ERROR") and "has no manifest" not in str(line)]
    assert [line["message"] for line in warnings] == [
        "traces cannot be exported and are lost; check OTEL_EXPORTER_OTLP_ENDPOINT"
    ]
