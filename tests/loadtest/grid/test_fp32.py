"""The fp32 graph of an int8 bundle: the same answers but for rounding, and no product of bytes."""

from pathlib import Path

import numpy as np
import onnx
import pytest

from loadtest.grid.fp32 import DERIVED, float_products, write_fp32
from models.tasks.bundle import load_bundle
from models.tasks.directory.files import BundleError
from models.tasks.session import open_graph
from tests.server import ROOT
from tests.service.conftest import as_int8, tiny_qa_graph, write_bundle


@pytest.mark.parametrize("name", ["qa-small", "classify", "similarity", "rerank"])
def test_it_answers_as_the_int8_graph_within_its_rounding(name: str, tmp_path: Path) -> None:
    bundle = load_bundle(ROOT / "bundles" / name)
    note = write_fp32(bundle, tmp_path / "float")
    assert note == DERIVED
    derived = load_bundle(tmp_path / "float")
    assert (derived.task, derived.precision) == (bundle.task, "fp32")
    operators = {node.op_type for node in onnx.load(derived.model_path).graph.node}
    assert not operators & {"MatMulInteger", "DynamicQuantizeLinear"}
    ids = np.array([[101, 2040, 2626, 1996, 2034, 2565, 1029, 102]])
    feeds = {"input_ids": ids, "attention_mask": np.ones_like(ids)}
    exact, rounded = (
        open_graph(graph, threads=1, exact_products=True).run(None, feeds)[-1].ravel() for graph in (derived, bundle)
    )
    assert np.abs(exact - rounded).max() < 0.15 * max(np.abs(exact).max(), 1.0)
    assert not np.array_equal(exact, rounded)


def test_a_graph_that_the_bundle_carries_is_taken_as_it_is(tmp_path: Path) -> None:
    write_bundle(tmp_path / "mine")
    onnx.save(as_int8(tmp_path / "mine" / "onnx" / "model.onnx"), tmp_path / "mine" / "onnx" / "model_quantized.onnx")
    (tmp_path / "mine" / "halfdepth.json").write_text('{"file": "onnx/model_quantized.onnx", "no_answer_threshold": 1}')
    bundle = load_bundle(tmp_path / "mine")
    assert bundle.precision == "int8"
    assert write_fp32(bundle, tmp_path / "float") == ""
    assert load_bundle(tmp_path / "float").precision == "fp32"
    assert (tmp_path / "float" / "halfdepth.json").read_text() == '{"no_answer_threshold": 1, "task": "qa"}'


def test_a_graph_of_another_form_is_refused(tmp_path: Path) -> None:
    onnx.save(tiny_qa_graph(), tmp_path / "float.onnx")
    with pytest.raises(BundleError, match="has no MatMulInteger"):
        float_products(tmp_path / "float.onnx")
    onnx.save(as_int8(tmp_path / "float.onnx"), tmp_path / "bytes.onnx")
    with pytest.raises(BundleError, match="has a form that is not ours"):
        float_products(tmp_path / "bytes.onnx")
