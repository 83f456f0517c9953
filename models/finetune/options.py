"""Defines the options of `halfdepth finetune`."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from models.devset import AnswerLanguage
from models.files import Quoting, SkipBad
from models.tasks.base import TaskName
from models.tasks.build import SPECS
from models.tasks.errors import UsageError
from models.tasks.options import Flag, refuse_idle
from models.tasks.text.windows import OnOverflow
from models.training import LOOP, Loop

DATA = "data"
MAX_LENGTH = 384
LOSSES = "distillation: weights of the losses; 0 switches one off"
OF_LOSSES = ("cache_teacher", "hard", "soft", "hidden", "relation", "temperature")
OF_STUDENTS = ("layers", "student", "student_from", *OF_LOSSES)


@dataclass(frozen=True, slots=True, kw_only=True)
class FinetuneOptions(Loop):
    """Fine-tune a model on a task (--model), or distil fine-tuned teachers into a student of fewer layers (--teacher).

    A run that was killed continues where it stopped when the same command is given again.
    """

    task: Annotated[TaskName, Flag("what the model does", choices=SPECS)]
    train: Annotated[
        tuple[Path, ...],
        Flag(
            "qa, rerank: SQuAD JSON; classify: TSV with text, label; similarity: any text; entities: words and tags "
            "as CoNLL or JSON lines; name one twice to double it",
            metavar="FILE",
        ),
    ]
    dev: Annotated[
        Path,
        Flag(
            "labelled data to choose the best model: as --train; for similarity TSV with sentence1, sentence2, score",
            metavar="FILE",
        ),
    ]
    model: Annotated[str | None, Flag("fine-tune this encoder, without a teacher", metavar="DIR_OR_NAME")] = None
    teacher: Annotated[
        tuple[str, ...],
        Flag(
            "distil this fine-tuned model into a student; of several, the mean of their probabilities, and the layers "
            "and hidden states of the first",
            metavar="DIR_OR_NAME",
        ),
    ] = ()
    layers: Annotated[str, Flag("layers of the student: a count, or a list of the teacher's layers")] = "3"
    student: Annotated[str | None, Flag("continue with this student instead of cutting a new one", metavar="DIR")] = (
        None
    )
    student_from: Annotated[
        str | None,
        Flag(
            "cut the student from this encoder instead of the first teacher; its vocabulary maps onto the teachers'",
            metavar="DIR_OR_NAME",
        ),
    ] = None
    cache_teacher: Annotated[
        Path | None,
        Flag(
            "keep what the teachers answer to every window here, once for all runs; only --hard and --soft count then",
            metavar="DIR",
        ),
    ] = None
    out: Annotated[Path, Flag("directory for checkpoints, log and the best model", metavar="DIR")]

    quoting: Quoting = True
    skip_bad: SkipBad = False
    language: AnswerLanguage = "en"

    max_length: Annotated[int, Flag("maximum length of a window, tokens", above=0, group=DATA)] = MAX_LENGTH
    doc_stride: Annotated[int, Flag("qa: overlap of windows, tokens", at_least=0, group=DATA)] = 128
    moved_questions: Annotated[
        float,
        Flag("qa: share of the questions that are asked again of another paragraph", at_least=0, at_most=1, group=DATA),
    ] = 0.1
    swapped_questions: Annotated[
        float,
        Flag(
            "qa: share of the questions that are asked again with words of another", at_least=0, at_most=1, group=DATA
        ),
    ] = 0.0
    cropped: Annotated[
        float,
        Flag(
            "qa: share of the questions that are asked again of a part of their paragraph",
            at_least=0,
            at_most=1,
            group=DATA,
        ),
    ] = 0.0
    joined: Annotated[
        float,
        Flag(
            "qa: share of the questions that are asked again of many paragraphs in a row",
            at_least=0,
            at_most=1,
            group=DATA,
        ),
    ] = 0.0
    removed: Annotated[
        float,
        Flag("qa: share that is asked of many paragraphs without the right one", at_least=0, at_most=1, group=DATA),
    ] = 0.0
    one_separator: Annotated[
        bool, Flag("put one separator between two texts where MPNet and RoBERTa have two; with --model", group=DATA)
    ] = False
    negatives: Annotated[
        int, Flag("rerank: other paragraphs of its article that a question is paired with", above=0, group=DATA)
    ] = 3
    multi_label: Annotated[bool, Flag("classify: texts have labels with | between, or none", group=DATA)] = False
    on_overflow: Annotated[OnOverflow, Flag("classify: how to treat texts that are too long", group=DATA)] = "window"
    unlabelled: Annotated[
        tuple[Path, ...],
        Flag("classify: text files with sentences that only the teacher labels", metavar="FILE", group=DATA),
    ] = ()
    unlabelled_texts: Annotated[
        tuple[Path, ...],
        Flag("classify: whole texts of which only the teacher is asked, one a line", metavar="FILE", group=DATA),
    ] = ()
    pairs: Annotated[
        tuple[Path, ...],
        Flag(
            "similarity: TSV with sentence1, sentence2, score from 0 to 5, which cosines follow",
            metavar="FILE",
            group=DATA,
        ),
    ] = ()

    ema: Annotated[
        float,
        Flag(
            "judge and save the exponential moving average of the weights, such as 0.999; 0 switches it off",
            metavar="DECAY",
            at_least=0,
            below=1,
            group=LOOP,
        ),
    ] = 0.0
    dropout: Annotated[
        float, Flag("dropout rate without a teacher; costs half the speed on a CPU", at_least=0, below=1, group=LOOP)
    ] = 0.0
    freeze_embeddings: Annotated[bool, Flag("leave word embeddings as they are", group=LOOP)] = True
    patience: Annotated[
        int,
        Flag(
            "evaluations without a gain before the run stops; may change when a run continues",
            above=0,
            group=LOOP,
        ),
    ] = 2

    hard: Annotated[float, Flag("weight of the hard labels", at_least=0, group=LOSSES)] = 0.3
    soft: Annotated[float, Flag("weight of the soft targets of the teachers", at_least=0, group=LOSSES)] = 0.7
    hidden: Annotated[float, Flag("weight of the hidden states, layer by layer", at_least=0, group=LOSSES)] = 1.0
    relation: Annotated[float, Flag("weight of the relations of the last layer's values", at_least=0, group=LOSSES)] = (
        1.0
    )
    temperature: Annotated[float, Flag("temperature of the soft targets", above=0, group=LOSSES)] = 2.0

    def check(self) -> None:
        """Raises: UsageError."""
        if bool(self.model) == bool(self.teacher):
            raise UsageError("give either --model (to fine-tune) or --teacher (to distil)")
        if self.student and self.student_from:
            raise UsageError("give either --student (which goes on) or --student-from (of which one is cut)")
        if self.model:
            refuse_idle(self, OF_STUDENTS, "with --model, without a teacher")
        else:
            refuse_idle(self, ("dropout",), "with --teacher")
        if self.student:
            refuse_idle(self, ("layers",), "with --student, which has its layers")
        of_states = 0.0 if self.cache_teacher else self.hidden + self.relation
        if self.teacher and not (self.hard or self.soft or of_states):
            raise UsageError("every loss is switched off, so there is nothing to learn; give one a weight above 0")
