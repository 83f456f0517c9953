"""Writes atomically what a killed run needs to continue exactly where it was, and restores it."""

import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler
from torch.optim.swa_utils import AveragedModel

from models.provenance import PROVENANCE
from models.tasks.directory.files import CONFIG
from models.tasks.errors import InputError, first_line

PATTERN = "checkpoint-*.pt"
UNFINISHED = "checkpoint-*.tmp"  # what a run leaves that is killed while it writes one


def is_finished(out: Path) -> bool:
    """Tell whether a run has ended: its record is there, and no checkpoint is left. It writes the one, and then removes
    the others; one that was killed in between does its last steps again.
    """
    return (out / PROVENANCE).exists() and not any(out.glob(PATTERN))


def discard_checkpoints(out: Path) -> None:
    """Remove every checkpoint of a run, the newest first, once its record is written."""
    for path in [*out.glob(UNFINISHED), *newest_first(out)]:
        path.unlink()


def newest_first(out: Path) -> list[Path]:
    return sorted(out.glob(PATTERN), reverse=True)


def claim(out: Path, origins: Sequence[str], *, log: str) -> None:
    """Make the directory of a run, and check that it may be written and is no other model's.

    `origins`: the models that the run begins with. `log`: what a run that was killed has left there.

    Raises: CheckpointError.
    """
    if is_finished(out):
        raise CheckpointError(f"{out} holds a finished run; use a different --out")
    if any(Path(origin).exists() and out.exists() and out.samefile(origin) for origin in origins):
        raise CheckpointError(f"{out} is the directory of a model that the run begins with; use a different --out")
    if (out / CONFIG).exists() and not (out / log).exists():
        raise CheckpointError(f"{out} holds another model; use a different --out")
    try:
        out.mkdir(parents=True, exist_ok=True)
        with TemporaryFile(dir=out):
            pass
    except OSError as error:
        raise CheckpointError(f"{out} cannot be written ({error.strerror}); use a different --out") from error


class CheckpointError(InputError):
    """The checkpoint in the way belongs to another run, or cannot be written or read."""


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """Keeps the newest checkpoints of a run in its directory. A run that continues must share its `arguments`."""

    directory: Path
    arguments: dict[str, str]
    model: nn.Module
    optimizer: Optimizer
    scheduler: LRScheduler
    keep: int = 2  # the one before the newest is for a newest that cannot be read
    average: AveragedModel | None = None  # of the weights, if the run keeps one

    def save(self, progress: dict[str, Any]) -> None:  # Any: plain numbers and dictionaries of the loop's own
        """Write the checkpoint of `progress["step"]`, then remove those beyond the newest `keep`.

        Raises: CheckpointError if it cannot be written; those before it are left as they were.
        """
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
        path = self.directory / f"checkpoint-{progress['step']:08d}.pt"
        unfinished = path.with_suffix(".tmp")
        try:
            with unfinished.open("wb") as file:
                torch.save(state, file)
                file.flush()
                os.fsync(file.fileno())
        except (OSError, RuntimeError) as error:  # torch's own writer raises only RuntimeErrors
            unfinished.unlink(missing_ok=True)
            raise CheckpointError(
                f"{path} cannot be written: {error}; make room, and the same command continues from the one before"
            ) from error
        os.replace(unfinished, path)
        for outdated_path in newest_first(self.directory)[self.keep :]:
            outdated_path.unlink()

    def resume(self) -> dict[str, Any] | None:  # Any: as in save
        """Restore everything in place and return the loop's progress; None if there is no checkpoint.

        One that cannot be read is passed over with a warning for the one before.

        Raises: CheckpointError if the checkpoint was written by a run with other arguments, or none can be read.
        """
        paths = newest_first(self.directory)
        for path in paths:
            try:
                state = torch.load(path, map_location="cpu", weights_only=True)
            except Exception as error:  # torch's reader raises whatever the bytes lead it to
                sys.stderr.write(f"{path} cannot be read ({first_line(error)}); the checkpoint before it is used\n")
                continue
            self._restore(path, state)
            progress: dict[str, Any] = state["progress"]  # Any: as in save
            return progress
        if paths:
            raise CheckpointError(f"no checkpoint in {self.directory} can be read; remove them to start again")
        return None

    def _restore(self, path: Path, state: dict[str, Any]) -> None:  # Any: as in save
        changed_keys = sorted(key for key, value in self.arguments.items() if state["arguments"].get(key) != value)
        if changed_keys:
            raise CheckpointError(
                f"{path} belongs to a run with a different {', '.join(changed_keys)}; "
                "use the same arguments to continue it, or a different --out"
            )
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.scheduler.load_state_dict(state["scheduler"])
        if self.average:
            self.average.load_state_dict(state["average"])
        torch.set_rng_state(state["random"])
        if state["random_cuda"]:
            torch.cuda.set_rng_state_all(state["random_cuda"])
