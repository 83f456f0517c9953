"""Stands in for Ray, which only tests marked `system` install: actors are objects of this process, without copies."""

import asyncio
import importlib
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from service.engine.engine import Engine
from service.startup.loading import load_engine


class RayError(Exception):
    """As that of ray.exceptions."""


@dataclass
class Cluster:
    """What was asked of Ray. `refusal`: what a start raises; `failure`: what the first row raises."""

    cores: int = 2
    refusal: Exception | None = None
    failure: Exception | None = None
    addresses: list[str] = field(default_factory=list)
    pools: list[dict[str, int]] = field(default_factory=list)
    pieces: list[Any] = field(default_factory=list)
    shutdowns: int = 0
    context: SimpleNamespace = field(default_factory=lambda: SimpleNamespace(execution_options=SimpleNamespace()))
    engines: list[Engine] = field(default_factory=list)

    def init(self, *, address: str, **_: bool) -> None:
        if self.refusal:
            raise self.refusal
        self.addresses.append(address)

    def shutdown(self) -> None:
        self.shutdowns += 1

    def from_items(self, items: list[Any], *, override_num_blocks: int) -> "Rows":
        assert override_num_blocks == len(items)
        return Rows(self, items)

    def load_engine(self, *arguments: Any) -> Engine:
        self.engines.append(load_engine(*arguments))
        return self.engines[-1]


@dataclass
class Rows:
    """A data set of Ray's."""

    cluster: Cluster
    items: Iterable[Any]

    def map(self, actor: Callable[..., Any], *, fn_constructor_args: tuple[Any, ...], **_: Any) -> "Rows":
        call = actor(*fn_constructor_args)
        return Rows(self.cluster, map(call, self.items))

    def iter_rows(self) -> Iterator[Any]:
        for item in self.items:
            if self.cluster.failure:
                raise self.cluster.failure
            self.cluster.pieces.append(item)
            yield item


@contextmanager
def installed(module: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Cluster, Any]]:
    """Import a module of ours over this stand-in; afterwards it is forgotten and its engines and loops are closed."""
    cluster, loops = Cluster(), []
    new_event_loop = asyncio.new_event_loop

    def loop() -> asyncio.AbstractEventLoop:
        loops.append(new_event_loop())
        return loops[-1]

    parts: dict[str, dict[str, Any]] = {
        "ray": {
            "init": cluster.init,
            "shutdown": cluster.shutdown,
            "cluster_resources": lambda: {"CPU": float(cluster.cores)},
        },
        "ray.data": {
            "DataContext": SimpleNamespace(get_current=lambda: cluster.context),
            "ActorPoolStrategy": lambda **sizes: cluster.pools.append(sizes),
            "from_items": cluster.from_items,
        },
        "ray.exceptions": {"RayError": RayError},
        "ray.serve": {
            "Application": Deployment,
            "ingress": lambda: lambda replica: replica,
            "deployment": lambda replica, **options: Deployment(replica, options),
        },
    }
    for name, members in parts.items():
        monkeypatch.setitem(sys.modules, name, ModuleType(name))
        vars(sys.modules[name]).update(members)
        if "." in name:
            setattr(sys.modules["ray"], name.removeprefix("ray."), sys.modules[name])
    monkeypatch.setattr(asyncio, "new_event_loop", loop)
    imported = importlib.import_module(module)
    monkeypatch.setattr(imported, "load_engine", cluster.load_engine)
    try:
        yield cluster, imported
    finally:
        del sys.modules[module]
        for engine in cluster.engines:
            engine.close()
        for each in loops:
            each.close()


@dataclass
class Deployment:
    """What Ray Serve shall run, and with what."""

    replica: Callable[..., Any]
    options: dict[str, Any]
    arguments: tuple[Any, ...] = ()

    def bind(self, *arguments: Any) -> "Deployment":
        return Deployment(self.replica, self.options, arguments)
