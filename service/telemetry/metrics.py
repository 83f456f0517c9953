"""Counts for Prometheus. A request is counted once it has been answered, never before."""

from collections.abc import Callable, Iterable, Mapping
from typing import Protocol

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
    disable_created_metrics,
)
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector

from models.tasks.base import TaskName
from models.tasks.bundle import Bundle
from service.responses import Timings
from service.telemetry.context import RequestContext

SECONDS = (50e-6, 1e-4, 2.5e-4, 5e-4, 1e-3, 2.5e-3, 5e-3, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 10)
TOKENS = (8, 16, 32, 64, 128, 256, 384, 512, 1024, 2048, 4096, 16384, 65536)
WINDOWS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 1024)


class LoadedModel(Protocol):
    """What the metrics say of a model."""

    @property
    def id(self) -> str: ...

    @property
    def bundle(self) -> Bundle: ...

    @property
    def drift(self) -> float | None: ...


LoneThreads = tuple[TaskName, str, int, int]
"""Task and id of a model, a length in tokens, and the threads of its next run up to that length that runs alone."""


class Metrics:
    """Holds all of the service's metrics, and those of its process (`process_*`), in a registry of their own."""

    def __init__(
        self,
        models: Iterable[LoadedModel],
        *,
        queue_ms: Callable[[], float],
        in_flight: Callable[[], float],
        lone_threads: Callable[[], Iterable[LoneThreads]] = tuple,
    ) -> None:
        """`queue_ms` and `in_flight` are called at every scrape."""
        disable_created_metrics()  # type: ignore[no-untyped-call]  # or each series brings another, for its time of birth
        self._registry = registry = CollectorRegistry()
        self._requests = Counter(
            "halfdepth_requests_total",
            "Requests to a task's routes, by the status of their answer; 499 where the caller left first; the model is "
            "empty where the request was refused before it was known",
            ["task", "model", "status"],
            registry=registry,
        )
        self._stages = Histogram(
            "halfdepth_stage_seconds",
            "Time of an answered request by stage, as told in timings_ms",
            ["task", "model", "stage"],
            buckets=SECONDS,
            registry=registry,
        )
        self._tokens = Histogram(
            "halfdepth_input_tokens",
            "Tokens of an answered request before any truncation",
            ["task"],
            buckets=TOKENS,
            registry=registry,
        )
        self._windows = Histogram(
            "halfdepth_windows", "Windows of an answered request", ["task"], buckets=WINDOWS, registry=registry
        )
        self._counters: dict[tuple[TaskName, str, int], Counter] = {}
        self._histograms: dict[tuple[TaskName, str], tuple[Histogram, Histogram, dict[str, Histogram]]] = {}
        self._dropped = Counter(
            "halfdepth_dropped_total",
            "Work that was not done, or not to its end: client_gone, deadline, partial (answered), queue_full",
            ["task", "reason"],
            registry=registry,
        )
        self._int8_drift = Gauge(
            "halfdepth_int8_drift",
            "How far the golden answers are from the manifest's on this CPU, as measured at load",
            ["task", "model"],
            registry=registry,
        )
        self._info = Gauge(
            "halfdepth_model_info", "1 for each model", ["task", "name", "revision", "precision"], registry=registry
        )
        self.show_models(models)
        self._reloads = Counter(
            "halfdepth_reloads_total",
            "Bundles that had changed when they were looked at again: loaded, removed, or failed, so that what was "
            "loaded is served on; task and model are empty where they are not known",
            ["task", "model", "outcome"],
            registry=registry,
        )
        self._startup = Gauge(
            "halfdepth_startup_seconds",
            "Time of the start by part, which together are all of it",
            ["part"],
            registry=registry,
        )
        queue = Gauge("halfdepth_queue_ms", "Estimated work that is waiting, milliseconds", registry=registry)
        queue.set_function(queue_ms)
        Gauge("halfdepth_in_flight", "Requests that are not answered yet", registry=registry).set_function(in_flight)
        self._lone_threads = lone_threads
        self._lone_run_threads = Gauge(
            "halfdepth_lone_run_threads",
            "Threads of the next inference that runs alone, by its length at most, in tokens; learned from such runs",
            ["task", "model", "up_to_tokens"],
            registry=registry,
        )
        ProcessCollector(registry=registry)

    def add(self, collector: Collector) -> None:
        """Tell also what this one collects at each scrape."""
        self._registry.register(collector)

    def show_models(self, models: Iterable[LoadedModel]) -> None:
        """Tell these models and their drift, and no others."""
        self._info.clear()
        self._int8_drift.clear()
        for model in models:
            bundle = model.bundle
            self._info.labels(bundle.task, bundle.name, bundle.revision, bundle.precision).set(1)
            if model.drift is not None:
                self._int8_drift.labels(bundle.task, model.id).set(model.drift)

    def reloaded(self, task: str, model: str, outcome: str) -> None:
        self._reloads.labels(task, model, outcome).inc()

    def started(self, seconds: Mapping[str, float]) -> None:
        """Tell what the start took, by part."""
        for part, duration_s in seconds.items():
            self._startup.labels(part).set(duration_s)

    def answered(self, request: RequestContext, status: int) -> None:
        """Count a request after its answer has been sent, unless its route is of no task."""
        task = request.task
        if task is None:
            return
        model = request.model or ""
        self._request_counter(task, model, status).inc()
        if request.usage is None or request.timings_ms is None:
            return  # refused
        tokens, windows, stages = self._model_histograms(task, model)
        tokens.observe(request.usage.tokens_in)
        windows.observe(request.usage.windows)
        for stage, duration_ms in request.timings_ms.items():
            stages[stage].observe(duration_ms / 1e3, request.span)  # as an exemplar, if it is traced

    # Children are kept: to find one by its labels takes as long as to count.

    def _request_counter(self, task: TaskName, model: str, status: int) -> Counter:
        counter = self._counters.get((task, model, status))
        if counter is None:
            counter = self._counters[task, model, status] = self._requests.labels(task, model, status)
        return counter

    def _model_histograms(self, task: TaskName, model: str) -> tuple[Histogram, Histogram, dict[str, Histogram]]:
        """Returns: those of tokens, of windows, and of the time by stage."""
        histograms = self._histograms.get((task, model))
        if histograms is None:
            stages = {stage: self._stages.labels(task, model, stage) for stage in Timings.model_fields}
            histograms = self._tokens.labels(task), self._windows.labels(task), stages
            self._histograms[task, model] = histograms
        return histograms

    def dropped(self, task: str, reason: str) -> None:
        """Count work that was given up. `reason`: `client_gone`, `deadline` (in X-Deadline-Ms) or `queue_full`."""
        self._dropped.labels(task, reason).inc()

    def exposition(self, accept: str) -> tuple[bytes, str]:
        """Write all metrics in the format that the header Accept prefers. Returns: them, and their media type."""
        self._lone_run_threads.clear()  # a model may have been swapped out
        for task, model, up_to_tokens, threads in self._lone_threads():
            self._lone_run_threads.labels(task, model, up_to_tokens).set(threads)
        encode, media_type = choose_encoder(accept)
        return encode(self._registry), media_type
