"""Loads a fine-tuned transformers checkpoint for an export."""

import hashlib
from dataclasses import dataclass
from pathlib import Path

import torch
import transformers
from transformers import AutoTokenizer, PreTrainedModel, PreTrainedTokenizerFast

from models.finetune.recipes import RECIPES
from models.provenance import Training, read_training
from models.tasks.base import TaskName
from models.tasks.directory.files import CONFIG, read_json
from models.tasks.directory.model import ModelDirectory, max_tokens
from models.tasks.errors import InputError
from models.tasks.manifest import ModelRecord, TeacherRecord, TrainingRecord
from models.teachers import KINDS, check_has_tokenizer, check_is_whole, load_model
from models.teaching.tokenizer import leave_out_inputs

WEIGHTS = ("*.safetensors", "pytorch_model*.bin")  # as transformers: the second only where the first is not

CHUNKS = "chunk_size_feed_forward"  # saves memory and changes no output, but traced in chunks a graph has one length

# What transformers keeps, and would save beside the tokenizer, of a limit that it had, and in version 5 of its loading.
LIMITS = ("max_length", "stride", "truncation_strategy", "pad_to_multiple_of")
LOADING = ("is_local", "local_files_only")


class ExportError(InputError):
    """What was given cannot be exported; the text is one line that says what to change."""


@dataclass(frozen=True, slots=True)
class FinetunedModel:
    """Weights in float32 with eager attention, a fast tokenizer that cuts and pads nothing, their origin if known."""

    path: Path
    task: TaskName
    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerFast
    training: Training | None

    @property
    def name(self) -> str:
        return self.path.resolve().name

    def record(self) -> ModelRecord:
        """Describe the model as the manifest does."""
        files = _weights(self.path)
        digest = hashlib.sha256(b"".join(file.read_bytes() for file in files))
        config = self.model.config
        return ModelRecord(
            name=self.name,
            revision=digest.hexdigest()[:12],
            architecture=type(self.model).__name__,
            parameters=self.model.num_parameters(),
            layers=config.num_hidden_layers,
            hidden_size=config.hidden_size,
            bytes=sum(file.stat().st_size for file in files),
            training=_training_record(self.training) if self.training else None,
        )


def _training_record(training: Training) -> TrainingRecord:
    return TrainingRecord(
        command=training.command,
        seed=training.seed,
        seconds=training.seconds,
        source=training.source,
        teachers=tuple(TeacherRecord(**teacher.model_dump()) for teacher in training.teachers),
    )


def check_kind(name: str, kind: object) -> None:
    """Refuse a model of another kind than those that are exported. Raises: ExportError."""
    if kind not in KINDS:
        raise ExportError(f"{name}: model type {kind!r} is not supported; supported are {', '.join(KINDS)}")


def load_finetuned(path: Path, task: TaskName) -> FinetunedModel:
    """Load a checkpoint that has a head for the task. Raises: ExportError, BundleError, DataError, ModelError."""
    if not path.is_dir():
        raise ExportError(f"{path} is not a directory; give that of a transformers checkpoint")
    recipe, config = RECIPES[task], read_json(path / CONFIG)
    check_kind(str(path), config.get("model_type"))
    check_is_whole(str(path), config)
    if not _weights(path):
        raise ExportError(f"{path} holds no weights ({' or '.join(WEIGHTS)}); give a transformers checkpoint")
    model = load_model(
        str(path),
        recipe.model_class,
        head_for=task if recipe.has_head else None,
        # Else the exporter traces a boolean mask as Where(IsNaN), and fusions fail in silence (onnxruntime#22629).
        attn_implementation="eager",
        dtype=torch.float32,
        local_files_only=True,
        **({CHUNKS: 0} if config.get(CHUNKS) else {}),
    )
    tokenizer = _load_tokenizer(ModelDirectory(path, task, config))
    leave_out_inputs(tokenizer, model)
    return FinetunedModel(path, task, model.eval(), tokenizer, read_training(path))


def _load_tokenizer(directory: ModelDirectory) -> PreTrainedTokenizerFast:
    path = directory.path
    check_has_tokenizer(str(path))
    try:
        tokenizer = AutoTokenizer.from_pretrained(path, use_fast=True, local_files_only=True)
    except Exception as error:  # the libraries raise nothing narrower
        reason = str(error).partition("\n")[0]
        raise ExportError(
            f"{path}: transformers {transformers.__version__} cannot read the tokenizer ({reason}); save it beside the "
            "weights, or export with the transformers that saved it"
        ) from error
    if not isinstance(tokenizer, PreTrainedTokenizerFast):
        raise ExportError(f"{path} has no fast tokenizer; save its tokenizer.json beside the weights")
    tokenizer.model_max_length = max_tokens(directory)  # transformers.pipeline does not look at the positions
    # Sentence encoders ship with both on: contexts would be cut in silence.
    tokenizer.backend_tokenizer.no_truncation()
    tokenizer.backend_tokenizer.no_padding()
    for key in (*LIMITS, *LOADING):  # which remain of it
        tokenizer.init_kwargs.pop(key, None)
    return tokenizer


def _weights(path: Path) -> list[Path]:
    return next((files for pattern in WEIGHTS if (files := sorted(path.glob(pattern)))), [])
