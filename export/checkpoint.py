"""A fine-tuned transformers checkpoint, as it goes into an export."""

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from pydantic import BaseModel, ConfigDict, FiniteFloat, ValidationError
from transformers import AutoTokenizer, PreTrainedModel, PreTrainedTokenizerFast

from models.finetune.recipes import RECIPES
from models.tasks.base import TaskName
from models.tasks.directory import CONFIG, max_positions, read_json
from models.tasks.errors import InputError
from models.tasks.manifest import ModelRecord, TrainingRecord

SUPPORTED = ("bert", "distilbert", "roberta", "xlm-roberta")
TRAINING = "training.json"
WEIGHTS = ("*.safetensors", "pytorch_model*.bin")  # as transformers: the second only where the first is not


class ExportError(InputError):
    """What was given cannot be exported; the text is one line that says what to change."""


class TrainingData(BaseModel):
    """A file that `models.finetune` read."""

    name: str
    sha256: str
    bytes: int
    licence: str | None = None


class Training(BaseModel):
    """What `models.finetune` writes beside the weights; later keys of its own are no concern of an export."""

    model_config = ConfigDict(extra="ignore")

    command: str
    seed: int
    seconds: FiniteFloat
    source: str
    data: tuple[TrainingData, ...]


@dataclass(frozen=True, slots=True)
class Checkpoint:
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
        files = _weights(self.path)
        digest = hashlib.sha256(b"".join(file.read_bytes() for file in files))
        config = self.model.config
        known = self.training.model_dump(exclude={"data"}) if self.training else None
        return ModelRecord(
            name=self.name,
            revision=digest.hexdigest()[:12],
            architecture=type(self.model).__name__,
            parameters=self.model.num_parameters(),
            layers=config.num_hidden_layers,
            hidden_size=config.hidden_size,
            bytes=sum(file.stat().st_size for file in files),
            training=TrainingRecord(**known) if known else None,
        )


def load_checkpoint(path: Path, task: TaskName) -> Checkpoint:
    """Raises: ExportError, BundleError."""
    recipe, config = RECIPES[task], read_json(path / CONFIG)
    kind = config.get("model_type")
    if kind not in SUPPORTED:
        raise ExportError(f"{path}: model type {kind!r} is not supported; supported are {', '.join(SUPPORTED)}")
    if not _weights(path):
        raise ExportError(f"{path} holds no weights ({' or '.join(WEIGHTS)}); give a transformers checkpoint")
    try:
        model, loading = recipe.model_class.from_pretrained(
            path,
            # Else the exporter traces a boolean mask as Where(IsNaN), and fusions fail in silence (onnxruntime#22629).
            attn_implementation="eager",
            dtype=torch.float32,
            output_loading_info=True,
            local_files_only=True,
        )
    except Exception as error:  # torch, safetensors and transformers each raise their own
        reason = str(error).partition("\n")[0]
        raise ExportError(f"{path}: the weights cannot be read ({reason}); save the checkpoint again") from error
    # A task without a head does not use BERT's pooler either.
    untrained = sorted(key for key in loading["missing_keys"] if recipe.has_head or "pooler" not in key)
    if untrained:
        missing = ", ".join(untrained[:2])
        raise ExportError(f"{path} has no trained head for the task {task} ({missing}); fine-tune it first")
    return Checkpoint(path, task, model.eval(), _load_tokenizer(path, config), _load_training(path))


def _load_tokenizer(path: Path, config: dict[str, Any]) -> PreTrainedTokenizerFast:  # config: as read
    try:
        tokenizer = AutoTokenizer.from_pretrained(path, use_fast=True, local_files_only=True)
    except Exception as error:  # the libraries raise nothing narrower
        reason = str(error).partition("\n")[0]
        raise ExportError(f"{path}: the tokenizer cannot be read ({reason}); save it beside the weights") from error
    if not isinstance(tokenizer, PreTrainedTokenizerFast):
        raise ExportError(f"{path} has no fast tokenizer; save its tokenizer.json beside the weights")
    # transformers.pipeline cuts windows to this: half of what the model reads, as sentence encoders ship.
    tokenizer.model_max_length = max_positions(config)
    # They ship with both on: contexts would be cut in silence.
    tokenizer.backend_tokenizer.no_truncation()
    tokenizer.backend_tokenizer.no_padding()
    for key in ("max_length", "stride", "truncation_strategy", "pad_to_multiple_of"):  # what they had left behind
        tokenizer.init_kwargs.pop(key, None)
    return tokenizer


def _load_training(path: Path) -> Training | None:
    if not (path / TRAINING).exists():
        return None
    try:
        return Training.model_validate(read_json(path / TRAINING))
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise ExportError(f"{path / TRAINING}: {where}: {first['msg']}; correct the file or remove it") from error


def _weights(path: Path) -> list[Path]:
    return next((files for pattern in WEIGHTS if (files := sorted(path.glob(pattern)))), [])
