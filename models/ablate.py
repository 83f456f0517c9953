"""Repeats the paper's ablation: a student without each loss, and from random weights, on two tasks."""

import statistics
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any

from models.tasks.base import Metrics
from models.tasks.classification import SPEC as CLASSIFICATION
from models.tasks.errors import UsageError, needs_extra, run_command
from models.tasks.options import Flag, Options, read_options
from models.tasks.similarity import SPEC as SIMILARITY

with needs_extra("halfdepth ablate", "train"):
    from models.devset import DevOptions
    from models.files import read_tsv
    from models.finetune.classification import LABEL, ClassificationDev
    from models.finetune.loop import finetune
    from models.finetune.options import FinetuneOptions
    from models.finetune.similarity import SimilarityDev
    from models.pretrain.masked_lm import load_teacher
    from models.pretrain.options import PretrainOptions
    from models.pretrain.run import make_masked_student, pretrain
    from models.provenance import PROVENANCE, read_training
    from models.sentences import read_sentences
    from models.teachers import load_tokenizer
    from models.teaching.tokenizer import save_tokenizer

NEVER = 1_000_000_000  # steps: one evaluation, at the end


@dataclass(frozen=True, slots=True)
class Row:
    """Names what is left out, with the options of `pretrain` for it, and its cost in the paper's GLUE score."""

    name: str
    changes: Mapping[str, Any] | None  # of options, by their names; None: no general distillation at all
    paper: float | None = None


# Source: Sanh et al. 2019, arXiv:1910.01108, table 4; the last row is ours.
ROWS = (
    Row("all three losses", {}),
    Row("without soft targets", {"soft": 0.0}, -2.96),
    Row("without cosine", {"cosine": 0.0}, -1.46),
    Row("without masked tokens", {"mlm": 0.0}, -0.31),
    Row("random first weights", {"init": "random"}, -3.69),
    Row("no general distillation", None),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class AblateOptions(Options):
    """Repeat the paper's ablation: a student without each loss, and from random weights, on two tasks."""

    teacher: Annotated[str, Flag("teacher with a head for masked tokens", metavar="DIR_OR_NAME")]
    train: Annotated[tuple[str, ...], Flag("text to distil on", metavar="FILE_OR_NAME")]
    dev: Annotated[tuple[str, ...], Flag("held-out text", metavar="FILE_OR_NAME")]
    epochs: Annotated[float, Flag("passes over the text in general distillation; fractions are allowed", above=0)] = 1.0
    classification: Annotated[
        tuple[Path, Path], Flag("TSV files with texts and labels", name="--classify", metavar=("TRAIN", "DEV"))
    ]
    sentence_similarity: Annotated[
        tuple[Path, Path],
        Flag("text to train on; TSV with scores to measure on", name="--similarity", metavar=("TRAIN", "DEV")),
    ]
    sentence_teacher: Annotated[
        str, Flag("sentence encoder whose embeddings the student learns", metavar="DIR_OR_NAME")
    ]
    task_epochs: Annotated[float, Flag("passes over the data of each task", above=0)] = 2.0
    seeds: Annotated[tuple[int, ...], Flag("random seeds; each row is trained once with each of them")] = (0, 1, 2)
    layers: Annotated[str, Flag("layers of the students: a count, or a list of the teacher's layers")] = "3"
    out: Annotated[Path, Flag("directory for all runs; finished ones are not repeated", metavar="DIR")]

    def check(self) -> None:
        """Raises: UsageError if a task's file is missing, which is read after hours of distillation."""
        for path in (*self.classification, *self.sentence_similarity):
            if not path.is_file():
                raise UsageError(f"{path} is not a file")


def ablate(options: AblateOptions) -> str:
    """Train what is not finished yet. Returns: the table, in Markdown.

    Raises: whatever `pretrain` and `finetune` raise.
    """
    check_files(options.classification, options.sentence_similarity)
    scores: dict[str, list[tuple[float, float]]] = {}
    for seed in options.seeds:  # seed by seed: a run that is cut short leaves whole comparisons
        for row in ROWS:
            scores.setdefault(row.name, []).append(score(options, row, seed))
    table = tabulate(scores)
    (options.out / "ablation.md").write_text(table, encoding="utf-8")
    return table


def check_files(labelled: Sequence[Path], pairs: Sequence[Path]) -> None:
    """Read the files of both tasks, for training and for dev, before hours of distillation. Raises: DataError."""
    labels = sorted({example.label for example in read_tsv(labelled[0], LABEL)})
    ClassificationDev(labelled[1], DevOptions()).check_labels(labels, multi_label=False)
    read_sentences(pairs[0])
    SimilarityDev(pairs[1], DevOptions())


def score(options: AblateOptions, row: Row, seed: int) -> tuple[float, float]:
    """Return accuracy and Spearman's correlation of one student on the two dev sets, in percent."""
    out = options.out / f"{row.name.replace(' ', '-')}-{seed}"
    student = out / "student"
    if not (student / PROVENANCE).exists():
        distillation = PretrainOptions(
            teacher=options.teacher,
            train=options.train,
            dev=options.dev,
            out=student,
            layers=options.layers,
            epochs=options.epochs,
            seed=seed,
            evaluate_every=NEVER,
        )
        if row.changes is None:
            cut(distillation)
        else:
            pretrain(replace(distillation, **row.changes))
    return (
        train_task(classify_options(options, student, out / CLASSIFICATION.name, seed))[CLASSIFICATION.figure],
        train_task(similarity_options(options, student, out / SIMILARITY.name, seed))[SIMILARITY.figure],
    )


def cut(options: PretrainOptions) -> None:
    """Take a student straight from its teacher's layers, where `pretrain` would leave a distilled one."""
    teacher, _ = load_teacher(options.teacher)
    student = make_masked_student(options, teacher)
    student.save_pretrained(options.out)
    save_tokenizer(load_tokenizer(options.teacher), student, options.out)


def classify_options(options: AblateOptions, student: Path, out: Path, seed: int) -> FinetuneOptions:
    """Return how a student is fine-tuned to classify, without a teacher."""
    train, dev = options.classification
    return FinetuneOptions(
        task=CLASSIFICATION.name,
        train=(train,),
        dev=dev,
        model=str(student),
        out=out,
        max_length=128,
        freeze_embeddings=False,
        epochs=options.task_epochs,
        evaluate_every=NEVER,
        seed=seed,
    )


def similarity_options(options: AblateOptions, student: Path, out: Path, seed: int) -> FinetuneOptions:
    """Return how a student learns the embeddings of its sentence teacher."""
    train, dev = options.sentence_similarity
    return replace(
        classify_options(options, student, out, seed),
        task=SIMILARITY.name,
        train=(train,),
        dev=dev,
        model=None,
        teacher=(options.sentence_teacher,),
        student=str(student),
    )


def train_task(options: FinetuneOptions) -> Metrics:
    """Fine-tune a student on a task, or read the metrics of a finished run."""
    if not (options.out / PROVENANCE).exists():
        finetune(options)
    training = read_training(options.out)
    assert training, "a run that ends without an exception leaves its record"
    metrics: Metrics = training.metrics[options.dev.name]
    return metrics


def tabulate(scores: dict[str, list[tuple[float, float]]]) -> str:
    """Write means over the seeds and their standard deviations; deltas of the two tasks' mean, seed by seed."""
    lines = [
        "| | accuracy | Spearman | mean of both | delta | the paper's delta |",
        "|---|---|---|---|---|---|",
    ]
    complete_means = [statistics.mean(pair) for pair in scores[ROWS[0].name]]
    for row in ROWS:
        pairs = scores[row.name]
        means = [statistics.mean(pair) for pair in pairs]
        deltas = [mean - complete_mean for mean, complete_mean in zip(means, complete_means, strict=True)]
        cells = [spread([pair[0] for pair in pairs]), spread([pair[1] for pair in pairs]), spread(means)]
        cells.append("" if row is ROWS[0] else spread(deltas, sign="+"))
        cells.append("" if row.paper is None else f"{row.paper:+.2f}")
        lines.append(f"| {row.name} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def spread(values: Sequence[float], sign: str = "") -> str:
    deviation = f" ± {statistics.stdev(values):.2f}" if len(values) > 1 else ""
    return f"{statistics.mean(values):{sign}.2f}{deviation}"


def main(argv: Sequence[str] | None = None, *, prog: str = "python -m models.ablate") -> int:
    return run_command(prog, run, prog, argv)


def run(prog: str, argv: Sequence[str] | None) -> None:
    """Print the table."""
    sys.stdout.write(ablate(read_options(AblateOptions, prog, argv)))


if __name__ == "__main__":
    sys.exit(main())
