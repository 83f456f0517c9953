"""Repeats the paper's ablation: a student without each loss, and from random weights, on two tasks."""

import argparse
import statistics
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from transformers import AutoTokenizer

from models.checkpoint import CheckpointError
from models.data import DataError
from models.finetune.loop import finetune
from models.finetune.options import parse_arguments as finetune_arguments
from models.pretrain.loop import StoppedError
from models.pretrain.masked_lm import load_teacher
from models.pretrain.options import parse_arguments as pretrain_arguments
from models.pretrain.run import STOPPED, make_masked_student, pretrain
from models.provenance import PROVENANCE, read_training
from models.student import StudentError
from models.tasks.base import Metrics
from models.tasks.classification import SPEC as CLASSIFICATION
from models.tasks.similarity import SPEC as SIMILARITY

NEVER = "1000000000"  # steps: one evaluation, at the end


@dataclass(frozen=True, slots=True)
class Row:
    """What is left out, the flags of `models.pretrain` for it, and what that cost the paper's GLUE score."""

    name: str
    flags: tuple[str, ...] | None  # None: no general distillation at all
    paper: float | None = None


# Source: Sanh et al. 2019, arXiv:1910.01108, table 4; the last row is ours.
ROWS = (
    Row("all three losses", ()),
    Row("without soft targets", ("--soft", "0"), -2.96),
    Row("without cosine", ("--cosine", "0"), -1.46),
    Row("without masked tokens", ("--mlm", "0"), -0.31),
    Row("random first weights", ("--init", "random"), -3.69),
    Row("no general distillation", None),
)


def parse_arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m models.ablate", description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.add_argument("--teacher", required=True, metavar="DIR_OR_NAME", help="with a head for masked tokens")
    parser.add_argument("--train", nargs="+", required=True, metavar="FILE_OR_NAME", help="text to distil on")
    parser.add_argument("--dev", nargs="+", required=True, metavar="FILE_OR_NAME", help="held-out text")
    parser.add_argument("--epochs", type=float, default=1.0, help="of general distillation; parts of one are fine")
    parser.add_argument("--classify", type=Path, nargs=2, required=True, metavar=("TRAIN", "DEV"), help="TSV files")
    parser.add_argument(
        "--similarity", type=Path, nargs=2, required=True, metavar=("TRAIN", "DEV"), help="any text; TSV with scores"
    )
    parser.add_argument(
        "--sentence-teacher", required=True, metavar="DIR_OR_NAME", help="whose embeddings similarity learns"
    )
    parser.add_argument("--task-epochs", type=float, default=2.0, help="of each task")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2], help="each row is trained once with each")
    parser.add_argument("--layers", default="3", help="the students': a count, or a list of the teacher's")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="all runs; what is finished stays")
    arguments = parser.parse_args(argv)
    if arguments.epochs <= 0 or arguments.task_epochs <= 0:
        parser.error("--epochs and --task-epochs must be above 0")
    for path in (*arguments.classify, *arguments.similarity):  # they are read after hours of distillation
        if not path.is_file():
            parser.error(f"{path} is no file")
    return arguments


def ablate(arguments: argparse.Namespace) -> str:
    """Train what is not finished yet. Returns: the table, in Markdown.

    Raises: whatever `pretrain` and `finetune` raise.
    """
    scores: dict[str, list[tuple[float, float]]] = {}
    for seed in arguments.seeds:  # seed by seed: a run that is cut short leaves whole comparisons
        for row in ROWS:
            scores.setdefault(row.name, []).append(score(arguments, row, seed))
    table = tabulate(scores)
    (arguments.out / "ablation.md").write_text(table, encoding="utf-8")
    return table


def score(arguments: argparse.Namespace, row: Row, seed: int) -> tuple[float, float]:
    """Accuracy and Spearman's correlation of one student on the two dev sets, in percent."""
    out: Path = arguments.out / f"{row.name.replace(' ', '-')}-{seed}"
    student = out / "student"
    if not (student / PROVENANCE).exists():
        options = ["--layers", arguments.layers, "--epochs", str(arguments.epochs), "--seed", str(seed)]
        files = ["--train", *arguments.train, "--dev", *arguments.dev, "--evaluate-every", NEVER]
        argv = ["--teacher", arguments.teacher, "--out", str(student), *files, *options, *(row.flags or ())]
        if row.flags is None:
            cut(pretrain_arguments(argv))
        else:
            pretrain(pretrain_arguments(argv))
    common = ("--epochs", str(arguments.task_epochs), "--evaluate-every", NEVER, "--seed", str(seed))
    for_labels = ("--model", str(student), "--no-freeze-embeddings")
    for_similarity = ("--teacher", arguments.sentence_teacher, "--student", str(student), "--no-freeze-embeddings")
    return (
        run_task(CLASSIFICATION.name, arguments.classify, out, (*for_labels, *common))[CLASSIFICATION.figure],
        run_task(SIMILARITY.name, arguments.similarity, out, (*for_similarity, *common))[SIMILARITY.figure],
    )


def cut(arguments: argparse.Namespace) -> None:
    """A student straight from its teacher's layers, where `pretrain` would leave a distilled one."""
    teacher, _ = load_teacher(arguments.teacher)
    make_masked_student(arguments, teacher).save_pretrained(arguments.out)
    AutoTokenizer.from_pretrained(arguments.teacher).save_pretrained(arguments.out)


def run_task(task: str, files: Sequence[Path], out: Path, options: Sequence[str]) -> Metrics:
    """Fine-tune a student on a task, or read what a finished run has found."""
    train, dev = files
    if not (out / task / PROVENANCE).exists():
        data = ("--task", task, "--train", str(train), "--dev", str(dev), "--max-length", "128")
        finetune(finetune_arguments([*data, *options, "--out", str(out / task)]))
    training = read_training(out / task)
    assert training, "a run that ends without an exception leaves its record"
    metrics: Metrics = training.metrics[dev.name]
    return metrics


def tabulate(scores: dict[str, list[tuple[float, float]]]) -> str:
    """Means over the seeds and their standard deviations; deltas of the two tasks' mean, seed by seed."""
    lines = [
        "| | accuracy | Spearman | mean of both | delta | the paper's delta |",
        "|---|---|---|---|---|---|",
    ]
    whole = [statistics.mean(pair) for pair in scores[ROWS[0].name]]
    for row in ROWS:
        pairs = scores[row.name]
        means = [statistics.mean(pair) for pair in pairs]
        deltas = [own - its for own, its in zip(means, whole, strict=True)]
        cells = [spread([pair[0] for pair in pairs]), spread([pair[1] for pair in pairs]), spread(means)]
        cells.append("" if row is ROWS[0] else spread(deltas, sign="+"))
        cells.append("" if row.paper is None else f"{row.paper:+.2f}")
        lines.append(f"| {row.name} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def spread(values: Sequence[float], sign: str = "") -> str:
    deviation = f" ± {statistics.stdev(values):.2f}" if len(values) > 1 else ""
    return f"{statistics.mean(values):{sign}.2f}{deviation}"


def main(argv: Sequence[str] | None = None) -> int:
    arguments = parse_arguments(argv)
    try:
        table = ablate(arguments)
    except StoppedError as stopped:
        sys.stderr.write(f"python -m models.ablate: {stopped}\n")
        return STOPPED
    except (DataError, CheckpointError, StudentError, FloatingPointError, OSError) as error:
        reason = str(error).partition("\n")[0]  # libraries follow their first line with advice
        sys.stderr.write(f"python -m models.ablate: {reason}\n")
        return 2
    sys.stdout.write(table)
    return 0


if __name__ == "__main__":
    sys.exit(main())
