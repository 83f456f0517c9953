"""Goes the whole way in one command: teacher, student, bundle; finished stages are skipped."""

import json
import shlex
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from export.abstaining import check_calibration
from export.checkpoint import ExportError, check_kind, load_finetuned
from export.neighbours import read_sentences
from export.options import LAYERS, ExportOptions
from export.staging import check_replaceable
from models.checkpoint import is_finished
from models.data import DataError
from models.finetune.loop import COMMAND, finetune
from models.finetune.options import FinetuneOptions
from models.finetune.prepare import Prepared, prepare
from models.finetune.recipes import RECIPES
from models.provenance import PROVENANCE
from models.tasks.base import TaskName
from models.tasks.directory.files import BundleError, read_json
from models.tasks.errors import UsageError
from models.tasks.options import arguments_of, change_options
from models.teachers import ModelError


@dataclass(frozen=True, slots=True)
class Stage:
    """Describes one run of `finetune`, which is finished once its record is there; a killed one continues."""

    name: str
    options: FinetuneOptions

    @property
    def out(self) -> Path:
        return self.options.out

    @property
    def finished(self) -> bool:
        return is_finished(self.out)

    def check(self) -> None:
        """Raises: ExportError if what lies finished in `out` was made by another command."""
        if self.finished and read_json(self.out / PROVENANCE).get("command") != self.command:
            raise ExportError(
                f"{self.out} already contains a {self.name} trained with different arguments; choose another --work"
            )

    @property
    def command(self) -> str:
        return shlex.join(["python", "-m", COMMAND, *arguments_of(self.options)])


@dataclass(frozen=True, slots=True)
class Chain:
    """Holds the stages before an export from a teacher and training data; the student learns from `teacher`."""

    stages: tuple[Stage, ...]
    teacher: str

    @property
    def measures_teacher(self) -> bool:
        return len(self.stages) > 1 or Path(self.teacher).is_dir()

    def check(self, options: ExportOptions) -> None:
        """Read and check what every stage and the bundle need, before the first of them takes its time.

        Raises: ExportError, and what `prepare` raises.
        """
        check_replaceable(options.out.resolve())
        read_sentences(options)
        check_calibration(options)
        before: Prepared | None = None
        for stage in self.stages:
            if not stage.finished:
                before = prepare(stage.options, before)
        if before and self.measures_teacher:
            check_kind(self.teacher, before.config.model_type)

    def run(self, report: Callable[[str], None]) -> None:
        """Run what is not finished, and print its metrics. Raises: whatever `finetune` raises."""
        for number, stage in enumerate(self.stages, start=1):
            title = f"stage {number} of {len(self.stages) + 1}, {stage.name}"
            if stage.finished:
                report(f"{title}: finished before, in {stage.out}")
                continue
            report(f"{title}: {stage.command}")
            metrics = finetune(stage.options)
            sys.stdout.write(json.dumps(metrics, indent=2) + "\n")

    def export_options(self, options: ExportOptions) -> ExportOptions:
        """Return the options that export the student, once it is there; a teacher that lies in a directory is measured
        beside it.
        """
        return replace(
            options,
            train=(),
            layers=LAYERS,  # these four are of the stages before
            work=None,
            teacher_arguments="",
            student_arguments="",
            student=self.stages[-1].out,
            teacher=self.teacher if self.measures_teacher else None,
            name=options.name or options.out.name,
        )


def plan(options: ExportOptions) -> Chain:
    """Return the stages before the export. Raises: ExportError, BundleError, UsageError."""
    assert options.teacher is not None, "checked when the options were made"
    work = options.work or Path("runs", options.out.resolve().name)
    stages = []
    teacher = options.teacher
    if not is_ready(teacher, options.task):
        out = work / "teacher"
        encoder = FinetuneOptions(
            task=options.task,
            train=options.train,
            dev=options.dev,
            quoting=options.quoting,
            skip_bad=options.skip_bad,
            language=options.language,
            model=teacher,
            out=out,
        )
        stages.append(Stage("teacher", changed(encoder, "--teacher-arguments", options.teacher_arguments)))
        teacher = str(out)
    student = FinetuneOptions(
        task=options.task,
        train=options.train,
        dev=options.dev,
        quoting=options.quoting,
        skip_bad=options.skip_bad,
        language=options.language,
        teacher=(teacher,),
        layers=options.layers,
        out=work / "student",
    )
    stages.append(Stage("student", changed(student, "--student-arguments", options.student_arguments)))
    for stage in stages:
        stage.check()
    return Chain(tuple(stages), teacher)


def changed(options: FinetuneOptions, flag: str, text: str) -> FinetuneOptions:
    """Return the options with the changes that the text of a flag asks for. Raises: UsageError."""
    try:
        return change_options(options, flag, shlex.split(text))
    except (UsageError, ValueError) as error:  # shlex says so if a quotation mark is not closed
        raise UsageError(f"{flag}: {error}") from error


def is_ready(teacher: str, task: TaskName) -> bool:
    """Return whether a teacher needs no fine-tuning: the task has no head, or the directory has one for the task."""
    if not RECIPES[task].has_head:
        return True
    if not Path(teacher).is_dir():
        return False  # a name on the Hub: an encoder, as far as we know
    try:
        load_finetuned(Path(teacher), task)
    except (ExportError, BundleError, DataError, ModelError):
        return False  # `finetune` says what is wrong with it, if it cannot fine-tune it either
    return True


def describe(stages: Sequence[Stage], export_command: str) -> str:
    """Write the plan, a line for each stage."""
    lines = [f"{'finished' if stage.finished else 'to do':9} {stage.name}: {stage.command}" for stage in stages]
    return "\n".join([*lines, f"{'to do':9} bundle: {export_command}"]) + "\n"
