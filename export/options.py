"""Defines the options of `halfdepth export`."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from models.devset import AnswerLanguage
from models.files import Quoting, SkipBad
from models.tasks.base import TaskName
from models.tasks.build import SPECS
from models.tasks.directory.thresholds import POINTS_HELP, THRESHOLD, Thresholds, chosen_thresholds
from models.tasks.errors import UsageError
from models.tasks.options import Flag, Options, refuse_idle
from models.tasks.text.windows import OnOverflow

LAYERS = "3"
ORIGIN = "what it begins with"
GRAPH = "the graph"
CHECKS = "the checks"
ABSTAINING = "a model that can say that there is no answer"


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportOptions(Options):
    """Write a bundle: rewrites, int8, checks, manifest, model card.

    It begins from a teacher and training data (every stage from fine-tuning to the bundle; a killed run continues where
    it stopped), from a finished student, or from ONNX.
    """

    task: Annotated[TaskName, Flag("what the model does", choices=SPECS)]
    dev: Annotated[Path, Flag("labelled data; every check runs on it", metavar="FILE")]
    out: Annotated[Path, Flag("directory of the bundle; it is replaced if the new one passes", metavar="DIR")]
    name: Annotated[str | None, Flag("name of the bundle (default: the name of what it is made from)")] = None
    chart: Annotated[Path | None, Flag("file to draw latency, metric and size into", metavar="PNG")] = None
    dry_run: Annotated[bool, Flag("print what would be done, and do nothing")] = False

    teacher: Annotated[
        str | None,
        Flag(
            "with --train, a checkpoint for the task or an encoder that is fine-tuned first; with --student, its "
            "teacher's checkpoint, measured beside it",
            metavar="DIR_OR_NAME",
            group=ORIGIN,
        ),
    ] = None
    train: Annotated[
        tuple[Path, ...], Flag("training data, as for halfdepth finetune", metavar="FILE", group=ORIGIN)
    ] = ()
    layers: Annotated[str, Flag("layers of the student: a count, or a list of the teacher's layers", group=ORIGIN)] = (
        LAYERS
    )
    student: Annotated[Path | None, Flag("a finished student's checkpoint", metavar="DIR", group=ORIGIN)] = None
    from_onnx: Annotated[
        Path | None,
        Flag("directory with an ONNX model: a bundle, or one exported elsewhere", metavar="DIR", group=ORIGIN),
    ] = None
    work: Annotated[
        Path | None, Flag("directory for teacher and student (default: runs/NAME-OF-OUT)", metavar="DIR", group=ORIGIN)
    ] = None
    teacher_arguments: Annotated[
        str, Flag("more flags of halfdepth finetune for the teacher, in one string", metavar="FLAGS", group=ORIGIN)
    ] = ""
    student_arguments: Annotated[
        str, Flag("more flags of halfdepth finetune for the student, in one string", metavar="FLAGS", group=ORIGIN)
    ] = ""

    quoting: Quoting = True
    skip_bad: SkipBad = False
    language: AnswerLanguage = "en"

    int8: Annotated[bool, Flag("quantize the weights to int8", group=GRAPH)] = True
    rewrite: Annotated[bool, Flag("rewrite the graph for batch size 1", group=GRAPH)] = True
    keep_fp32: Annotated[bool, Flag("leave the fp32 graph in the bundle beside int8", group=GRAPH)] = False
    reduce_range: Annotated[bool, Flag("quantize the weights to 7 bits, for CPUs without VNNI", group=GRAPH)] = False
    keep_float: Annotated[
        tuple[str, ...], Flag("products to leave in float, by parts of their names", metavar="NAME", group=GRAPH)
    ] = ()
    smooth: Annotated[
        bool,
        Flag(
            "before int8, move the outliers of activations into the weights that multiply them, by the inputs of --dev",
            group=GRAPH,
        ),
    ] = True

    max_metric_drop: Annotated[
        float,
        Flag(
            "points that int8 may lose of F1 (qa), accuracy (classify), Spearman's correlation (similarity) or MRR@10 "
            "(rerank)",
            metavar="POINTS",
            group=CHECKS,
        ),
    ] = 0.5
    min_agreement: Annotated[
        float | None,
        Flag(
            "percent of float's answers to --dev (best spans or labels; of embeddings, 100 times the mean cosine) that "
            "int8 must keep (default: 99 for a model that halfdepth finetune did not train)",
            at_least=0,
            at_most=100,
            metavar="PERCENT",
            group=CHECKS,
        ),
    ] = None
    min_neighbours: Annotated[
        float | None,
        Flag(
            "share, from 0 to 1, of each text's ten nearest neighbours by float that int8 must keep, for embeddings "
            "(default: 0.95)",
            at_least=0,
            at_most=1,
            metavar="SHARE",
            group=CHECKS,
        ),
    ] = None
    sentences: Annotated[
        tuple[Path, ...],
        Flag(
            "unlabelled data, as for halfdepth finetune, whose sentences are neighbours beside those of --dev; of more "
            "than 5,000, that many are drawn",
            metavar="FILE",
            group=CHECKS,
        ),
    ] = ()
    on_overflow: Annotated[OnOverflow, Flag("how to treat texts to classify that are too long", group=CHECKS)] = (
        "truncate"
    )
    seed: Annotated[
        int,
        Flag("random seed that chooses the inputs of the logit parity check, and sentences", at_least=0, group=CHECKS),
    ] = 0

    no_answer_threshold: Annotated[
        float | None,
        Flag(
            "logits by which the null must lead the best span for 'no answer' to win; 0 is the usual rule",
            metavar="LOGITS",
            group=ABSTAINING,
        ),
    ] = None
    no_answer_by_tokens: Annotated[tuple[str, ...], Flag(POINTS_HELP, metavar="POINT", group=ABSTAINING)] = ()
    calibrate_no_answer: Annotated[
        bool, Flag("find the threshold with the best F1 over all questions of --dev", group=ABSTAINING)
    ] = False

    command: str = ""  # for the record; no flag

    @property
    def thresholds(self) -> Thresholds | None:
        """What the flags say of "no answer". Raises: UsageError."""
        return chosen_thresholds(self.no_answer_threshold, self.no_answer_by_tokens)

    def check(self) -> None:
        """Raises: UsageError."""
        if sum(map(bool, (self.train, self.student, self.from_onnx))) != 1:
            raise UsageError("give exactly one of --train (with --teacher), --student and --from-onnx")
        if self.train and not self.teacher:
            raise UsageError("--train needs --teacher: the model to learn from")
        if self.thresholds and self.calibrate_no_answer:
            raise UsageError("give --calibrate-no-answer, or the threshold itself, not both")
        if SPECS[self.task].overlap is None and (self.sentences or self.min_neighbours is not None):
            raise UsageError(f"{self.task} has no embeddings to compare; remove --min-neighbours and --sentences")
        if not self.train:
            refuse_idle(self, ("layers", "work", "teacher_arguments", "student_arguments"), "without --train")
        if self.from_onnx:
            refuse_idle(self, ("teacher",), "with --from-onnx")
        if (self.thresholds or self.calibrate_no_answer) and THRESHOLD not in SPECS[self.task].override_keys:
            raise UsageError(f"a model for {self.task} has no {THRESHOLD}; remove the flags of one")
        chart = self.chart  # which is drawn after hours of training
        if chart and (chart.is_dir() or not chart.parent.is_dir()):
            raise UsageError(f"--chart {chart}: give a file in a directory that exists")
