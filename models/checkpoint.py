"""A run that can be killed: what it needs to go on exactly where it was, written atomically."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler
from torch.optim.swa_utils import AveragedModel
from transformers import PreTrainedModel

FILE = "checkpoint.pt"


class CheckpointError(ValueError):
    """The checkpoint in the way belongs to another run."""


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """The one checkpoint of a run in its directory. `arguments` are what a run that goes on must share."""

    directory: Path
    arguments: dict[str, str]
    model: PreTrainedModel
    optimizer: Optimizer
    scheduler: LRScheduler
    average: AveragedModel | None = None  # of the weights, if the run keeps one

    def save(self, progress: dict[str, Any]) -> None:  # Any: plain numbers and dictionaries of the loop's own
        state = {
            "arguments": self.arguments,
            "progress": progress,
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "scheduler": self.scheduler.state_dict(),
            "average": self.average.state_dict() if self.average else None,
            "random": torch.get_rng_state(),
            "random_cuda": torch.cuda.get_rng_state_all(),
        }
        unfinished = self.directory / f"{FILE}.tmp"
        torch.save(state, unfinished)
        os.replace(unfinished, self.directory / FILE)

    def resume(self) -> dict[str, Any] | None:  # Any: as in save
        """Restore everything in place and return the loop's progress; None if there is no checkpoint.

        Raises: CheckpointError if the checkpoint was written by a run with other arguments.
        """
        path = self.directory / FILE
        if not path.exists():
            return None
        state = torch.load(path, map_location="cpu", weights_only=True)
        changed = sorted(key for key, value in self.arguments.items() if state["arguments"].get(key) != value)
        if changed:
            raise CheckpointError(
                f"{path} is of a run with another {', '.join(changed)}; "
                "give the same arguments to go on with it, or another --out"
            )
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.scheduler.load_state_dict(state["scheduler"])
        if self.average:
            self.average.load_state_dict(state["average"])
        torch.set_rng_state(state["random"])
        if state["random_cuda"]:
            torch.cuda.set_rng_state_all(state["random_cuda"])
        progress: dict[str, Any] = state["progress"]  # Any: as in save
        return progress

    def discard(self) -> None:
        (self.directory / FILE).unlink(missing_ok=True)
