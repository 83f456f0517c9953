"""Loads checkpoints and bundles to run them, and runs models in PyTorch."""

from collections.abc import Sequence
from dataclasses import replace
from inspect import signature
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file
from torch import Tensor, nn
from tqdm import tqdm
from transformers import PreTrainedModel

from models.data import Batch, Item, collate
from models.tasks.base import AnyTask, Features, Outputs, Run, TaskName, answerer
from models.tasks.build import build_task
from models.tasks.bundle import load_bundle
from models.tasks.directory.files import CONFIG, BundleError, read_json
from models.tasks.directory.model import read_directory
from models.tasks.errors import first_line
from models.tasks.session import OnnxSession, feed, graph_outputs, open_graph
from models.tasks.similarity import TOKEN_OUTPUTS
from models.teachers import check_is_whole, load_model

GPU_BATCH = 256  # windows


def input_names(model: PreTrainedModel) -> list[str]:
    """List the inputs that a model reads, in transformers' order."""
    typed = getattr(model.config, "type_vocab_size", 0) > 1 and "token_type_ids" in signature(model.forward).parameters
    return ["input_ids", *(["token_type_ids"] if typed else []), "attention_mask"]


def forward(model: PreTrainedModel, batch: Batch, *, hidden_states: bool = False) -> Any:  # Any: transformers' own
    inputs = {name: getattr(batch, name) for name in input_names(model)}
    return model(**inputs, output_hidden_states=hidden_states, return_dict=True)  # whatever config.json says


def torch_run(model: PreTrainedModel, output_names: Sequence[str], *, bf16: bool = False) -> Run:
    """Run the model as it stands, in evaluation mode, on its device."""

    @torch.inference_mode()
    def run(features: Features) -> Outputs:
        model.eval()
        arrays = feed(features, ["input_ids", "attention_mask", "token_type_ids"])
        tensors = {name: torch.from_numpy(array).to(model.device) for name, array in arrays.items()}
        with torch.autocast(model.device.type, torch.bfloat16, enabled=bf16):
            output = forward(model, Batch(**tensors, labels=torch.empty(0)))
        return tuple(output[name][0].float().cpu().numpy() for name in output_names)

    return run


def answer_all(model: PreTrainedModel, task: AnyTask, inputs: Sequence[Any], *, bf16: bool = False) -> list[Any]:
    """Answer many inputs: one window at a time on a CPU, where padding costs, and by batches on a GPU."""
    if model.device.type == "cpu":
        answer = answerer(task, torch_run(model, task.output_names, bf16=bf16))
        return [answer(item) for item in tqdm(inputs, desc="dev", unit="input")]
    encodings = [task.encode(item) for item in inputs]
    windows = [window for encoding in encodings for window in encoding.windows]
    outputs = iter(batched_outputs(model, task.output_names, windows, bf16=bf16))
    return [task.decode(encoding, [next(outputs) for _ in encoding.windows]) for encoding in encodings]


@torch.inference_mode()
def batched_outputs(
    model: PreTrainedModel, output_names: Sequence[str], windows: Sequence[Features], *, bf16: bool = False
) -> list[Outputs]:
    """Run windows in batches of like lengths. Returns: the outputs of each, in the order of the windows."""
    model.eval()
    outputs: list[Outputs] = [()] * len(windows)
    order = sorted(range(len(windows)), key=lambda index: len(windows[index]))
    for at in range(0, len(order), GPU_BATCH):
        indices = order[at : at + GPU_BATCH]
        items = [Item(windows[index], np.zeros(0)) for index in indices]
        batch = collate(items, pad_token_id=model.config.pad_token_id or 0, device=model.device)
        with torch.autocast(model.device.type, torch.bfloat16, enabled=bf16):
            output = forward(model, batch)
        arrays = [output[name].float().cpu().numpy() for name in output_names]
        padded_length = batch.input_ids.shape[1]
        for row, index in enumerate(indices):
            length = len(windows[index])
            outputs[index] = tuple(
                array[row, :length] if array.shape[1:2] == (padded_length,) else array[row] for array in arrays
            )
    return outputs


def checkpoint_task(directory: Path, name: TaskName) -> AnyTask:
    """Build the task of a transformers checkpoint, as of a bundle with the same files. Raises: BundleError."""
    return build_task(replace(read_directory(directory, name), weights=read_weights), TOKEN_OUTPUTS)


def read_weights(folder: Path) -> dict[str, NDArray[np.floating]]:
    """Read the weights of a module of sentence-transformers. Raises: BundleError."""
    safe, pickled = folder / "model.safetensors", folder / "pytorch_model.bin"
    path = safe if safe.exists() else pickled
    try:
        weights = load_file(path) if path == safe else torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch and safetensors each raise their own
        raise BundleError(f"{path} cannot be read ({first_line(error)}); restore it") from error
    return {name: tensor.float().numpy() for name, tensor in weights.items()}


def load_checkpoint(directory: Path, name: TaskName, model_class: Any, *, has_head: bool = True) -> tuple[Run, AnyTask]:
    """Load a checkpoint to run it. `model_class`: transformers' Auto class of the task; these have no common type.

    `has_head`: the task needs a trained head. Raises: OSError if the directory is none, BundleError, ModelError if it
    holds no checkpoint, or not one for this task.
    """
    if not directory.is_dir():
        raise NotADirectoryError(f"{directory} is not a directory; use the directory of a checkpoint")
    task = checkpoint_task(directory, name)
    check_is_whole(str(directory), read_json(directory / CONFIG))
    model = load_model(str(directory), model_class, head_for=name if has_head else None)
    return torch_run(model, task.output_names), task


def load_bundle_run(directory: Path, name: TaskName) -> tuple[Run, AnyTask]:
    """Load a bundle to run it. Raises: BundleError, also if the bundle is for another task."""
    bundle = load_bundle(directory, name)
    graph = open_graph(bundle, threads=1, exact_products=True)
    task = build_task(bundle, graph_outputs(graph))
    return OnnxSession(bundle, graph, task.output_names).run, task


def value_projections(model: PreTrainedModel) -> list[nn.Module]:
    """List the value projections of the layers; none for a kind whose layers are made otherwise."""
    names = ("attention.self.value", "attention.v_lin")  # BERT, RoBERTa and ELECTRA, DistilBERT
    return [module for name, module in model.named_modules() if name.endswith(names)]


class LastValues:
    """Keeps what the value projection of a model's last layer returned. Shape: (batch, seq_len, hidden_size)."""

    def __init__(self, model: PreTrainedModel) -> None:
        self.values = torch.empty(0)
        value_projections(model)[-1].register_forward_hook(self._keep)

    def _keep(self, _module: nn.Module, _inputs: tuple[Tensor, ...], output: Tensor) -> None:
        self.values = output


def training_device() -> torch.device:
    """Choose the GPU, where there is one, or else the CPU. Switches cuDNN's attention off for the whole process.

    Batches of like lengths have many shapes, and cuDNN seems to plan anew for each: on an H100 `models.pretrain` made
    less than half the tokens a second with it at 16 windows (docs/log/training.md). PyTorch's own kernels take any
    shape.
    """
    torch.backends.cuda.enable_cudnn_sdp(False)
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")
