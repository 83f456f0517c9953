"""Makes spans of answered requests for OpenTelemetry, where the OTEL_* variables ask for traces.

Spans are made by the journal, after the answer, from the clocks that a request has anyway: while it is answered,
tracing costs it nothing but a look at the clock.
"""

import logging
import threading
from collections.abc import Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from time import perf_counter_ns, time_ns
from typing import Any

from opentelemetry.trace import Span, SpanKind, StatusCode, Tracer, set_span_in_context
from starlette.types import Scope

from service.telemetry.context import RequestContext

logger = logging.getLogger(__name__)

ENDPOINTS = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
PROTOCOLS = ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL")  # the first goes before the second
PROTOCOL = "http/protobuf"
EXPORTER_LOGGER = "opentelemetry.exporter.otlp.proto.http.trace_exporter"
CLOSE_S = 5.0  # what has not been exported by then is lost
CLIENT_GONE = 499


class Tracing:
    """Records each request as a span of its own, with one child for each stage; the SDK samples and exports them."""

    def __init__(self, tracer: Tracer, shut_down: Any = lambda: None) -> None:  # a function of the SDK's
        from opentelemetry import propagate  # it reads OTEL_PROPAGATORS, and loads what that names

        self._tracer, self._shut_down, self._extract = tracer, shut_down, propagate.extract

    def record(self, scope: Scope, request: RequestContext, status: int) -> dict[str, str] | None:
        """Returns: `trace_id` and `span_id` of a span that is sampled."""
        epoch = time_ns() - perf_counter_ns()
        route = getattr(scope.get("route"), "path", None)
        method = scope["method"]
        span = self._tracer.start_span(
            f"{method} {route}" if route else method,
            self._extract(_carrier(scope)),
            SpanKind.SERVER,
            _attributes(scope, route, request, status),
            start_time=epoch + request.received,
        )
        context = span.get_span_context()
        if span.is_recording():
            self._record_stages(span, request, epoch)
            if status >= 500:
                span.set_status(StatusCode.ERROR)
        span.end(epoch + (request.ended or perf_counter_ns()))
        if not context.trace_flags.sampled:
            return None
        return {"trace_id": f"{context.trace_id:032x}", "span_id": f"{context.span_id:016x}"}

    def close(self) -> None:
        """Export what is left, for CLOSE_S at most."""
        thread = threading.Thread(target=self._shut_down, name="traces", daemon=True)
        thread.start()
        thread.join(CLOSE_S)

    def _record_stages(self, span: Span, request: RequestContext, epoch: int) -> None:
        stages = request.stages
        if stages is None:
            return
        end = stages.submitted + stages.total
        for name, began, ended in (
            ("queue", stages.submitted, stages.encoded - stages.tokenization),
            ("tokenization", stages.encoded - stages.tokenization, stages.encoded),
            ("inference", stages.inferred - stages.inference_wall, stages.inferred),
            ("postprocess", end - stages.postprocess, end),
        ):
            child = self._tracer.start_span(name, set_span_in_context(span), start_time=epoch + began)
            child.end(epoch + ended)


class OneWarning:
    """Wraps an exporter and tells once that it fails, and once that it works again; it would tell every try."""

    def __init__(self, exporter: Any, succeeds: object) -> None:  # of the SDK, which has no types here
        self._exporter, self._succeeds, self._fails = exporter, succeeds, False

    def export(self, spans: Sequence[object]) -> object:
        result = self._exporter.export(spans)
        if (fails := result is not self._succeeds) is not self._fails:
            self._fails = fails
            if fails:
                logger.warning("traces cannot be exported and are lost; check OTEL_EXPORTER_OTLP_ENDPOINT")
            else:
                logger.info("traces are exported again")
        return result

    def __getattr__(self, name: str) -> object:
        return getattr(self._exporter, name)


def start_tracing(environ: Mapping[str, str]) -> Tracing | None:
    """Begin to export traces, if the environment asks for them. Returns: None if it does not, or they cannot be."""
    if not is_asked_for(environ):
        return None
    if refusal := _refusal(environ):
        logger.warning("requests are not traced: %s", refusal)
        return None
    try:
        traces = _set_up(environ)
    except Exception as error:  # of a library, over a variable's value: a service without traces is better than none
        logger.warning("requests are not traced: %s; correct the OTEL_* variables", error)
        return None
    logger.info("requests are traced")
    return traces


def _set_up(environ: Mapping[str, str]) -> Tracing:
    """Make the SDK's parts, which read all other variables by themselves."""
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExportResult

    is_named = environ.get("OTEL_SERVICE_NAME") or "service.name=" in environ.get("OTEL_RESOURCE_ATTRIBUTES", "")
    resource = Resource.create({} if is_named else {"service.name": "halfdepth"})
    logging.getLogger(EXPORTER_LOGGER).setLevel(logging.CRITICAL + 1)  # `OneWarning` tells
    exporter = OTLPSpanExporter()
    provider = TracerProvider(resource=resource, shutdown_on_exit=False)
    provider.add_span_processor(BatchSpanProcessor(OneWarning(exporter, SpanExportResult.SUCCESS)))
    return Tracing(provider.get_tracer("halfdepth", _version()), provider.shutdown)


def is_asked_for(environ: Mapping[str, str]) -> bool:
    """Tell whether traces are asked for: by OTEL_TRACES_EXPORTER, or without it by an endpoint of OTLP."""
    if environ.get("OTEL_SDK_DISABLED", "").strip().lower() == "true":
        return False
    exporters = environ.get("OTEL_TRACES_EXPORTER", "").strip().lower()
    if exporters:
        return exporters != "none"
    return any(environ.get(name, "").strip() for name in ENDPOINTS)


def _refusal(environ: Mapping[str, str]) -> str | None:
    exporter = environ.get("OTEL_TRACES_EXPORTER", "").strip().lower() or "otlp"
    if exporter != "otlp":
        return f"OTEL_TRACES_EXPORTER is {exporter}, and this service has otlp and none"
    protocol = next((value for name in PROTOCOLS if (value := environ.get(name, "").strip())), PROTOCOL)
    if protocol != PROTOCOL:
        return f"the protocol {protocol} is not spoken here; set OTEL_EXPORTER_OTLP_PROTOCOL to {PROTOCOL} (port 4318)"
    if not _is_installed():
        return "OTEL_* variables ask for traces, and their libraries are not installed; pip install 'halfdepth[otel]'"
    return None


def _is_installed() -> bool:
    try:
        return all(find_spec(name) for name in ("opentelemetry.sdk.trace", EXPORTER_LOGGER))
    except ModuleNotFoundError:  # of a package above
        return False


def _carrier(scope: Scope) -> dict[str, str]:
    """Give propagators the headers, those of one name together: two traceparents make none that can be read."""
    carrier: dict[str, str] = {}
    for name, value in scope["headers"]:
        key, text = name.decode("latin-1"), value.decode("latin-1")
        carrier[key] = f"{carrier[key]},{text}" if key in carrier else text
    return carrier


def _attributes(scope: Scope, route: str | None, request: RequestContext, status: int) -> dict[str, Any]:
    """Name what is known, by OpenTelemetry's conventions for HTTP where they have a name; never what was sent."""
    usage = request.usage
    is_failure = status >= 500 or status == CLIENT_GONE
    known = {
        "http.request.method": scope["method"],
        "http.route": route,
        "http.response.status_code": None if status == CLIENT_GONE else status,  # nothing was sent
        "url.scheme": scope.get("scheme"),
        "url.path": route,
        "network.protocol.version": scope.get("http_version"),
        "error.type": (request.code or str(status)) if is_failure else None,
        "halfdepth.request_id": request.id,
        "halfdepth.task": request.task,
        "halfdepth.model": request.model,
        "halfdepth.code": request.code,
        "halfdepth.tokens_in": usage and usage.tokens_in,
        "halfdepth.tokens_used": usage and usage.tokens_used,
        "halfdepth.windows": usage and usage.windows,
        "halfdepth.truncated": usage and usage.truncated,
    }
    return {name: value for name, value in known.items() if value is not None}


def _version() -> str | None:
    try:
        return version("halfdepth")
    except PackageNotFoundError:
        return None
