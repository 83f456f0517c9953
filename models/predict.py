"""Forward passes over one unpadded window, by PyTorch or by onnxruntime: what `evaluate` measures."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnxruntime
import torch
from tokenizers import Tokenizer
from transformers import AutoModelForQuestionAnswering, AutoTokenizer, PreTrainedModel

from models.tasks.base import Features, Outputs
from models.tasks.bundle import load_bundle, qa_task
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


def load_tokenizer(name: str) -> Tokenizer:
    """The fast tokenizer of a checkpoint, or of a name on the Hugging Face Hub."""
    tokenizer: Tokenizer = AutoTokenizer.from_pretrained(name, use_fast=True).backend_tokenizer
    return tokenizer


def load_checkpoint(directory: Path) -> tuple[Run, QuestionAnswering]:
    model = AutoModelForQuestionAnswering.from_pretrained(directory)
    threshold = getattr(model.config, "no_answer_threshold", None)
    return torch_run(model), QuestionAnswering(load_tokenizer(str(directory)), no_answer_threshold=threshold)


def load_bundle_run(directory: Path) -> tuple[Run, QuestionAnswering]:
    bundle = load_bundle(directory)
    session = onnxruntime.InferenceSession(bundle.model_path, providers=["CPUExecutionProvider"])
    return onnx_run(session), qa_task(bundle)
