"""Where a model is trained."""

import torch


def training_device() -> torch.device:
    """The GPU, where there is one, or else the CPU. Switches cuDNN's attention off for the whole process.

    Batches of like lengths have many shapes, and cuDNN seems to plan anew for each: on an H100 `models.pretrain` made
    less than half the tokens a second with it at 16 windows (docs/log.md). PyTorch's own kernels take any shape.
    """
    torch.backends.cuda.enable_cudnn_sdp(False)
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")
