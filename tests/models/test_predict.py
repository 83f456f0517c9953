"""Where a model is trained, and what batches change: nothing."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoModelForQuestionAnswering

from models.predict import batched_outputs, checkpoint_task, torch_run, training_device
from models.squad import read_squad
from models.tasks.base import Features
from models.tasks.qa import QAInput


@pytest.fixture
def cudnn_attention() -> Iterator[None]:
    before = torch.backends.cuda.cudnn_sdp_enabled()
    torch.backends.cuda.enable_cudnn_sdp(True)
    yield
    torch.backends.cuda.enable_cudnn_sdp(before)


@pytest.mark.usefixtures("cudnn_attention")
def test_attention_that_plans_for_every_shape_is_off_where_training_starts() -> None:
    device = training_device()
    assert device.type == ("cuda" if torch.cuda.is_available() else "cpu")
    assert not torch.backends.cuda.cudnn_sdp_enabled()


def test_batches_give_what_windows_alone_give(tiny_qa: dict[str, Path], squad_file: Path) -> None:
    model = AutoModelForQuestionAnswering.from_pretrained(tiny_qa["bert"])
    task = checkpoint_task(tiny_qa["bert"], "qa")
    encodings = [task.encode(QAInput(example.question, example.context)) for example in read_squad(squad_file)]
    windows = [window for encoding in encodings for window in encoding.windows]
    assert len({len(window) for window in windows}) > 1
    run = torch_run(model, task.output_names)
    for window, outputs in zip(windows, batched_outputs(model, task.output_names, windows), strict=True):
        for output, alone in zip(outputs, run(window), strict=True):
            np.testing.assert_allclose(output, alone, atol=1e-5)


@pytest.mark.parametrize("key", ["torchscript", "return_dict"])
def test_a_configuration_that_asks_for_tuples_changes_no_output(tiny_qa: dict[str, Path], key: str) -> None:
    inputs = Features(np.array([2, 7, 3]), np.zeros(3, np.int64))
    models = (
        AutoModelForQuestionAnswering.from_pretrained(tiny_qa["bert"], **options)
        for options in ({}, {key: key == "torchscript"})
    )
    plain, changed = (torch_run(model, ["start_logits"])(inputs)[0] for model in models)
    np.testing.assert_array_equal(plain, changed)
