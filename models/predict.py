"""Forward passes over one unpadded window, by PyTorch or by onnxruntime: what `evaluate` measures."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnxruntime
import torch
from tokenizers import Tokenizer
from transformers import AutoModelForQuestionAnswering, AutoTokenizer, PreTrainedModel

from models.tasks.base import Features, Outputs
from models.tasks.bundle import DISABLED_OPTIMIZERS, Precision, load_bundle, max_positions, qa_task
from models.tasks.qa import QuestionAnswering

Run = Callable[[Features], Outputs]


def torch_run(model: PreTrainedModel, *, bf16: bool = False) -> Run:
    """The model as it stands, in evaluation mode, on its own device."""
    names = QuestionAnswering.output_names

    @torch.inference_mode()
    def run(features: Features) -> Outputs:
        model.eval()
        input_names = ["input_ids", "attention_mask"]
        if getattr(model.config, "type_vocab_size", 0) > 1:
            input_names.append("token_type_ids")
        feed = {name: torch.from_numpy(array).to(model.device) for name, array in features.feed(input_names).items()}
        with torch.autocast(model.device.type, torch.bfloat16, enabled=bf16):
            output = model(**feed)
        return tuple(output[name][0].float().cpu().numpy() for name in names)

    return run


def onnx_run(session: onnxruntime.InferenceSession) -> Run:
    input_names = [item.name for item in session.get_inputs()]
    names = list(QuestionAnswering.output_names)

    def run(features: Features) -> Outputs:
        return tuple(np.asarray(output)[0] for output in session.run(names, features.feed(input_names)))

    return run


def load_graph(path: Path, precision: Precision) -> Run:
    """The graph on one thread: an export often shares its machine with a training run, where spinning threads crawl."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(
        path,
        options,
        providers=["CPUExecutionProvider"],
        disabled_optimizers=set(DISABLED_OPTIMIZERS[precision]),
    )
    return onnx_run(session)


def load_tokenizer(name: str) -> Tokenizer:
    """The fast tokenizer of a checkpoint, or of a name on the Hugging Face Hub."""
    tokenizer: Tokenizer = AutoTokenizer.from_pretrained(name, use_fast=True).backend_tokenizer
    return tokenizer


def load_checkpoint(directory: Path) -> tuple[Run, QuestionAnswering]:
    """Raises: OSError if the directory holds no checkpoint."""
    if not directory.is_dir():
        raise NotADirectoryError(f"{directory} is no directory; give that of a checkpoint")
    model = AutoModelForQuestionAnswering.from_pretrained(directory)
    threshold = getattr(model.config, "no_answer_threshold", None)
    task = QuestionAnswering(
        load_tokenizer(str(directory)),
        max_length=max_positions(model.config.to_dict()),
        no_answer_threshold=threshold,
    )
    return torch_run(model), task


def load_bundle_run(directory: Path) -> tuple[Run, QuestionAnswering]:
    bundle = load_bundle(directory)
    return load_graph(bundle.model_path, bundle.precision), qa_task(bundle)
