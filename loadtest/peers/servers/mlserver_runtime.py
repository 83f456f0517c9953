"""Names MLServer's Hugging Face runtime, repaired so that PyTorch 2.13 can stand beside it.

optimum 1, which it needs, imports names for its exporter from where PyTorch no longer has them.
"""

import sys

from torch.onnx._internal.torchscript_exporter import symbolic_opset14

sys.modules["torch.onnx.symbolic_opset14"] = symbolic_opset14

from mlserver_huggingface import HuggingFaceRuntime  # noqa: E402  # only now can it be imported

Runtime = HuggingFaceRuntime
