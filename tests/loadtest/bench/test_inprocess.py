"""The work in process is the service's: the same graph, the same products."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import onnx
import pytest

from loadtest.bench import inprocess
from loadtest.bench.inprocess import as_served, in_process
from models.tasks.bundle import FP32_MODEL, INT8_MODEL, Bundle, load_bundle
from models.tasks.qa import QAInput
from models.tasks.session import open_graph
from tests.service.conftest import as_int8, write_bundle

ITEM = QAInput("where?", "she lives in Paris")


@pytest.fixture
def bundle(tmp_path: Path) -> Bundle:
    """An int8 graph beside an fp32 graph that the manifest lists."""
    write_bundle(tmp_path / "qa")
    onnx.save(as_int8(tmp_path / "qa" / FP32_MODEL), tmp_path / "qa" / INT8_MODEL)
    files = [SimpleNamespace(path=INT8_MODEL), SimpleNamespace(path=FP32_MODEL)]
    manifest: Any = SimpleNamespace(files=files, graph=None)  # of a manifest, this is all that is read here
    return replace(load_bundle(tmp_path / "qa"), manifest=manifest)


@pytest.mark.parametrize(
    ("drifts", "opened"),
    [
        ([0.0], [("int8", False)]),
        ([None], [("int8", False)]),
        ([0.3, 0.001], [("int8", False), ("int8", True)]),
        ([0.3, 0.3, 0.0], [("int8", False), ("int8", True), ("fp32", False)]),
    ],
)
def test_a_bundle_is_run_as_the_service_would_run_it_here(
    bundle: Bundle, monkeypatch: pytest.MonkeyPatch, drifts: list[float | None], opened: list[tuple[str, bool]]
) -> None:
    asked = list[tuple[str, bool]]()

    def noted(choice: Bundle, *, threads: int, exact_products: bool) -> Any:
        asked.append((choice.precision, exact_products))
        return open_graph(choice, threads=threads, exact_products=exact_products)

    def drift(_bundle: Bundle, _answer: Callable[[Any], Any]) -> float | None:
        return drifts[len(asked) - 1]

    monkeypatch.setattr(inprocess, "open_graph", noted)
    monkeypatch.setattr(inprocess, "golden_drift", drift)
    served, exact_products = as_served(bundle)
    assert asked == opened
    assert (served.precision, exact_products) == opened[-1]
    asked.clear()
    assert in_process(bundle, 2)(ITEM).answers[0].text == "Paris"
    assert asked == [*opened, opened[-1]]
