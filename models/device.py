"""Where a model is trained."""

import torch


def training_device() -> torch.device:
    """The GPU, where there is one, or else the CPU. Switches cuDNN's attention off for the whole process.

    It plans anew for every shape, of which batches of like lengths have many: on an H100 a step of 16 windows took
    three times as long with it (docs/log.md). PyTorch's own kernels take any shape.
    """
    torch.backends.cuda.enable_cudnn_sdp(False)
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")
