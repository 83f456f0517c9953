"""The whole way in one command: teacher, student, bundle. Each stage is skipped once it is finished."""

import shlex
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from export.checkpoint import ExportError, load_finetuned
from models.data import DataError
from models.finetune.__main__ import main as finetune
from models.finetune.recipes import RECIPES
from models.provenance import PROVENANCE
from models.tasks.base import TaskName
from models.tasks.directory import BundleError, read_json


@dataclass(frozen=True, slots=True, kw_only=True)
class Chain:
    """`teacher`: a checkpoint for the task, or an encoder to fine-tune first. `work` holds what the stages make."""

    task: TaskName
    teacher: str
    train: Sequence[Path]
    dev: Path
    layers: str
    work: Path
    teacher_arguments: str = ""
    student_arguments: str = ""


@dataclass(frozen=True, slots=True)
class Stage:
    """One `models.finetune`; finished once its record lies in `out`. A killed one goes on where it stopped."""

    name: str
    arguments: tuple[str, ...]
    out: Path

    @property
    def finished(self) -> bool:
        return (self.out / PROVENANCE).is_file()

    def check(self) -> None:
        """Raises: ExportError if what lies finished in `out` was made by another command."""
        if self.finished and read_json(self.out / PROVENANCE).get("command") != self.command:
            raise ExportError(f"{self.out} holds a {self.name} that another command made; give another --work")

    @property
    def command(self) -> str:
        return shlex.join(["python", "-m", "models.finetune", *self.arguments])


def plan(chain: Chain) -> tuple[list[Stage], str]:
    """The stages before the export, and the teacher that the student learns from. Raises: ExportError, BundleError."""
    data = ["--task", chain.task, "--train", *map(str, chain.train), "--dev", str(chain.dev)]
    stages = []
    teacher = chain.teacher
    if not is_ready(chain.teacher, chain.task):
        own = chain.work / "teacher"
        arguments = (*data, "--model", chain.teacher, "--out", str(own), *shlex.split(chain.teacher_arguments))
        stages.append(Stage("teacher", arguments, own))
        teacher = str(own)
    out = chain.work / "student"
    origin = ("--teacher", teacher, "--layers", chain.layers, "--out", str(out))
    stages.append(Stage("student", (*data, *origin, *shlex.split(chain.student_arguments)), out))
    for stage in stages:
        stage.check()
    return stages, teacher


def is_ready(teacher: str, task: TaskName) -> bool:
    """Whether a teacher needs no fine-tuning: the task has no head, or the directory has one for the task."""
    if not RECIPES[task].has_head:
        return True
    if not Path(teacher).is_dir():
        return False  # a name on the Hub: an encoder, as far as we know
    try:
        load_finetuned(Path(teacher), task)
    except (ExportError, BundleError, DataError):
        return False  # `models.finetune` says what is wrong with it, if it cannot fine-tune it either
    return True


def describe(stages: Sequence[Stage], export_command: str) -> str:
    """The plan, a line for each stage."""
    lines = [f"{'finished' if stage.finished else 'to do':9} {stage.name}: {stage.command}" for stage in stages]
    return "\n".join([*lines, f"{'to do':9} bundle: {export_command}"]) + "\n"


def run(stages: Sequence[Stage], say: Callable[[str], None]) -> int:
    """Run what is not finished; returns the exit status of the first stage that fails, else 0."""
    for number, stage in enumerate(stages, start=1):
        if stage.finished:
            say(f"stage {number} of {len(stages) + 1}, {stage.name}: finished before, in {stage.out}")
            continue
        say(f"stage {number} of {len(stages) + 1}, {stage.name}: {stage.command}")
        status = finetune(list(stage.arguments))
        if status:
            return status
    return 0
