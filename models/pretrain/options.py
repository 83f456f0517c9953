"""Defines the options of `halfdepth pretrain`."""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from models.tasks.errors import UsageError
from models.tasks.options import Flag, refuse_idle
from models.training import LOOP, Clip, Epochs, Loop, PeakRate, Steps

DATA = "data"
MAX_LENGTH = 128
MODELS = "student and teacher"
LOSSES = "losses: a weight of 0 switches one off"


@dataclass(frozen=True, slots=True, kw_only=True)
class PretrainLoop(Loop):
    """How long to distil over plain text and how: `accumulate` micro-batches of each process make a step."""

    epochs: Epochs = 3.0
    batch_size: Annotated[int, Flag("windows in a micro-batch, on each process", above=0, group=LOOP)] = 16
    accumulate: Annotated[int, Flag("micro-batches in an optimizer step, on each process", above=0, group=LOOP)] = 1
    lr: PeakRate = 5e-4
    clip: Clip = 5.0
    evaluate_every: Steps = 500
    log_every: Steps = 10
    keep: Annotated[int, Flag("number of newest checkpoints to keep", above=0, group=LOOP)] = 2
    dev_batches: Annotated[
        int, Flag("batches of --dev in each evaluation; 0 for all of them", at_least=0, group=DATA)
    ] = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class PretrainOptions(PretrainLoop):
    """Distil a masked language model into a student of fewer layers, before any task.

    On many GPUs or machines: accelerate launch -m models.pretrain, or torchrun -m models.pretrain.
    """

    teacher: Annotated[str, Flag("teacher: a BERT, DistilBERT or RoBERTa model", metavar="DIR_OR_NAME")]
    train: Annotated[
        tuple[str, ...],
        Flag(
            "training text: files with a paragraph on each line, or datasets of the Hugging Face Hub, OWNER/NAME or "
            "OWNER/NAME:CONFIG",
            metavar="FILE_OR_NAME",
        ),
    ]
    dev: Annotated[tuple[str, ...], Flag("held-out text, in the same forms as --train", metavar="FILE_OR_NAME")]
    out: Annotated[Path, Flag("directory for checkpoints, losses and the student", metavar="DIR")]

    max_length: Annotated[int, Flag("maximum length of a window, tokens", at_least=8, group=DATA)] = MAX_LENGTH
    cache: Annotated[
        Path | None, Flag("directory for tokenized text (default: the cache of `datasets`)", metavar="DIR", group=DATA)
    ] = None

    layers: Annotated[
        str | None,
        Flag(
            "layers of the student: a count, or a list of the teacher's layers (default: half its depth)", group=MODELS
        ),
    ] = None
    init: Annotated[Literal["teacher", "random"], Flag("origin of the student's first weights", group=MODELS)] = (
        "teacher"
    )
    hidden_size: Annotated[
        int | None,
        Flag(
            "width of the student, if not the teacher's; requires --init random and --cosine 0", above=0, group=MODELS
        ),
    ] = None
    train_mlm_head: Annotated[
        bool,
        Flag(
            "if the teacher has no head for masked tokens, first fit one on the corpus, with its encoder frozen",
            group=MODELS,
        ),
    ] = False
    head_epochs: Annotated[
        float, Flag("passes over the data to fit that head", above=0, below=math.inf, group=MODELS)
    ] = 1.0
    head_lr: Annotated[float, Flag("peak learning rate to fit that head", above=0, group=MODELS)] = 3e-3

    soft: Annotated[float, Flag("weight of the teacher's soft targets, over all tokens", at_least=0, group=LOSSES)] = (
        5.0
    )
    mlm: Annotated[float, Flag("weight of the masked tokens", at_least=0, group=LOSSES)] = 2.0
    cosine: Annotated[float, Flag("weight of the direction of the last hidden states", at_least=0, group=LOSSES)] = 1.0
    relation: Annotated[float, Flag("weight of the relations of the last layer's values", at_least=0, group=LOSSES)] = (
        0.0
    )
    temperature: Annotated[float, Flag("temperature of the soft targets", above=0, group=LOSSES)] = 2.0

    def check(self) -> None:
        """Raises: UsageError."""
        if self.hidden_size is not None and (self.init != "random" or self.cosine):
            raise UsageError(
                "--hidden-size requires --init random and --cosine 0: a student of another width cannot start from the "
                "teacher's weights"
            )
        if not self.train_mlm_head:
            refuse_idle(self, ("head_epochs", "head_lr"), "without --train-mlm-head")
        if not (self.soft or self.mlm or self.cosine or self.relation):
            raise UsageError("every loss is switched off, so there is nothing to learn; give one a weight above 0")
