"""Reads PromQL: which metrics and labels an expression asks for, and which a service of ours would answer with."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import promql_parser
from prometheus_client.parser import text_string_to_metric_families

from models.tasks.base import Usage
from models.tasks.bundle import load_bundle
from models.tasks.qa import build as qa_task
from service.engine.model import Model
from service.responses import Timings
from service.telemetry.context import RequestContext
from service.telemetry.metrics import Metrics
from service.telemetry.throttling import Throttling
from tests.service.conftest import FakeSession, write_bundle, zeros

SCRAPED = {"job", "instance"}  # labels that Prometheus adds
Exposed = Mapping[str, set[str]]
"""Labels of each sample by its name."""


@dataclass
class Asked:
    """What an expression asks for."""

    metrics: set[str] = field(default_factory=set)
    labels: dict[str, set[str]] = field(default_factory=dict)  # that are matched, by metric
    values: set[tuple[str, str]] = field(default_factory=set)  # of labels
    grouped: set[str] = field(default_factory=set)  # labels that something is grouped or joined by

    def misspelt(self, exposed: Exposed) -> list[str]:
        """Names of metrics and labels that no sample has."""
        wrong = sorted(self.metrics - set(exposed))
        known = SCRAPED.union(*(exposed.get(metric, set()) for metric in self.metrics))
        wrong += sorted(self.grouped - known)
        for metric, labels in self.labels.items():
            wrong += [f"{metric}{{{label}}}" for label in sorted(labels - SCRAPED - exposed.get(metric, set()))]
        return wrong


def asked(expression: str) -> Asked:
    """Raises: ValueError if it is not PromQL."""
    result = Asked()
    for node in nodes(promql_parser.parse(expression)):
        if isinstance(node, promql_parser.VectorSelector):
            matchers = node.matchers.matchers
            result.metrics.add(node.name or "")
            result.labels.setdefault(node.name or "", set()).update(matcher.name for matcher in matchers)
            result.values |= {(matcher.name, value) for matcher in matchers for value in matcher.value.split("|")}
        for modifier in (getattr(node, "modifier", None), getattr(getattr(node, "modifier", None), "matching", None)):
            result.grouped |= set(getattr(modifier, "labels", ()))
    return result


def nodes(node: object) -> Iterator[object]:
    """Every part of an expression."""
    yield node
    for name in ("expr", "lhs", "rhs", "vector_selector", "param"):
        if (child := getattr(node, name, None)) is not None:
            yield from nodes(child)
    for child in getattr(node, "args", ()):
        yield from nodes(child)


def exposed(folder: Path) -> Exposed:
    """The samples of /metrics after a request, a drop and a lone run; `folder` takes a bundle."""
    write_bundle(folder / "qa", "qa")
    bundle = load_bundle(folder / "qa")
    model = Model(bundle, qa_task(bundle), FakeSession(zeros), drift=0.0)
    lone = [("qa", model.id, 64, 2)]
    metrics = Metrics([model], queue_ms=lambda: 0, in_flight=lambda: 0, lone_threads=lambda: lone)
    usage = Usage(tokens_in=1, tokens_used=1, windows=1, truncated=False)
    metrics.answered(RequestContext("id", "qa", model.id, usage, dict.fromkeys(Timings.model_fields, 1.0)), 200)
    metrics.dropped("qa", "deadline")
    metrics.reloaded("qa", model.id, "loaded")
    metrics.started({"loading": 1.0})
    metrics.add(Throttling(lambda: 1.0))
    families = text_string_to_metric_families(metrics.exposition("")[0].decode())
    found: dict[str, set[str]] = {"up": set()}  # Prometheus' own
    for family in families:
        for sample in family.samples:
            found.setdefault(sample.name, set()).update(sample.labels)
    return found
