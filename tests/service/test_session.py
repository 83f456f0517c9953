from pathlib import Path

import numpy as np
import onnx
import pytest

from models.tasks.base import Features
from models.tasks.bundle import BundleError, load_bundle
from service.session import OnnxSession
from tests.service.conftest import VOCABULARY, tiny_graph, write_bundle

QA_OUTPUTS = ("start_logits", "end_logits")


def window(*words: str) -> Features:
    ids = np.array([VOCABULARY[word] for word in words], np.int64)
    return Features(ids, np.zeros_like(ids))


def test_a_window_gives_outputs_without_a_batch_dimension(bundles: Path) -> None:
    session = OnnxSession(load_bundle(bundles / "qa"), QA_OUTPUTS, threads=1)
    start_logits, end_logits = session.run(window("[CLS]", "in", "paris"))
    assert start_logits.tolist() == [2.0, -5.0, 9.0]
    assert end_logits.tolist() == [2.0, -5.0, 9.0]


def test_outputs_come_in_the_order_of_the_task(bundles: Path) -> None:
    session = OnnxSession(load_bundle(bundles / "qa"), ("end_logits",), threads=1)
    assert len(session.run(window("paris"))) == 1


def test_an_int8_bundle_loads_too(tmp_path: Path) -> None:
    write_bundle(tmp_path / "qa")
    model = tmp_path / "qa" / "onnx" / "model.onnx"
    model.rename(model.with_name("model_quantized.onnx"))
    bundle = load_bundle(tmp_path / "qa")
    assert bundle.precision == "int8"
    assert len(OnnxSession(bundle, QA_OUTPUTS, threads=2).run(window("paris"))) == 2


def test_a_graph_that_cannot_be_read_is_told_in_one_line(tmp_path: Path) -> None:
    write_bundle(tmp_path / "qa")
    (tmp_path / "qa" / "onnx" / "model.onnx").write_bytes(b"no graph")
    with pytest.raises(BundleError, match=r"model\.onnx cannot be loaded") as caught:
        OnnxSession(load_bundle(tmp_path / "qa"), QA_OUTPUTS, threads=1)
    assert "\n" not in str(caught.value)


def test_a_graph_without_the_task_s_outputs_is_refused(bundles: Path) -> None:
    with pytest.raises(BundleError, match=r"lacks outputs \['logits'\]"):
        OnnxSession(load_bundle(bundles / "qa"), ("logits",), threads=1)


def test_a_graph_with_an_input_that_no_task_has_is_refused(tmp_path: Path) -> None:
    write_bundle(tmp_path / "qa")
    graph = tiny_graph()
    graph.graph.input[1].name = "pixel_values"
    onnx.save(graph, str(tmp_path / "qa" / "onnx" / "model.onnx"))
    with pytest.raises(BundleError, match=r"needs inputs \['pixel_values'\]"):
        OnnxSession(load_bundle(tmp_path / "qa"), QA_OUTPUTS, threads=1)
