"""Where a model is trained."""

from collections.abc import Iterator

import pytest
import torch

from models.predict import training_device


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
