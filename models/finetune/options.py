"""The flags of `python -m models.finetune`."""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import get_args

from models.tasks.build import SPECS
from models.tasks.texts import OnOverflow

ABOVE_0 = (
    "epochs",
    "batch_size",
    "accumulate",
    "lr",
    "max_length",
    "temperature",
    "evaluate_every",
    "checkpoint_every",
    "patience",
)


def parse_arguments(argv: Sequence[str]) -> argparse.Namespace:
    """The flags by their names, and `argv` as it was given. Ends the process with status 2 on a wrong one."""
    parser = argparse.ArgumentParser(
        prog="python -m models.finetune",
        description="Fine-tune a model on a task, or distil a fine-tuned teacher into a student of fewer layers.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument("--task", choices=tuple(SPECS), required=True)
    start = parser.add_mutually_exclusive_group(required=True)
    start.add_argument("--model", metavar="DIR_OR_NAME", help="fine-tune this encoder, without a teacher")
    start.add_argument(
        "--teacher",
        nargs="+",
        default=[],
        metavar="DIR_OR_NAME",
        help="distil this fine-tuned model into a student; of several, the mean of their probabilities, and the layers "
        "and hidden states of the first",
    )
    parser.add_argument("--layers", default="3", help="the student's layers: a count, or a list of the teacher's")
    parser.add_argument("--student", metavar="DIR", help="go on with this student instead of cutting a new one")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="checkpoints, log and the best model")
    _add_data(parser.add_argument_group("data"))
    _add_loop(parser.add_argument_group("loop"))
    _add_losses(parser.add_argument_group("distillation: what each loss counts, 0 switches it off"))
    arguments = parser.parse_args(argv)
    for name in ABOVE_0:
        if getattr(arguments, name) <= 0:
            parser.error(f"--{name.replace('_', '-')} must be above 0")
    if not 0 <= arguments.ema < 1:
        parser.error("--ema must be at least 0 and below 1")
    arguments.argv = list(argv)
    return arguments


def _add_data(data: argparse._ArgumentGroup) -> None:
    kinds = "qa: SQuAD JSON; classify: TSV with text, label; similarity: any text"
    data.add_argument(
        "--train", type=Path, nargs="+", required=True, metavar="FILE", help=f"{kinds}; name one twice to double it"
    )
    data.add_argument(
        "--dev",
        type=Path,
        required=True,
        metavar="FILE",
        help="chooses the best model; as --train, but for similarity TSV with sentence1, sentence2, score",
    )
    data.add_argument("--max-length", type=int, default=384, help="tokens of a window")
    data.add_argument("--doc-stride", type=int, default=128, help="qa: overlap of windows, tokens")
    data.add_argument("--moved-questions", type=float, default=0.1, help="qa: share asked again of another paragraph")
    data.add_argument("--multi-label", action="store_true", help="classify: a text has several labels, | between them")
    data.add_argument(
        "--on-overflow", choices=get_args(OnOverflow), default="window", help="classify: of texts that are too long"
    )
    data.add_argument(
        "--unlabelled",
        type=Path,
        nargs="+",
        default=[],
        metavar="FILE",
        help="classify: sentences of which only the teacher is asked; any text",
    )


def _add_loop(loop: argparse._ArgumentGroup) -> None:
    switch = argparse.BooleanOptionalAction
    loop.add_argument("--epochs", type=float, default=1.0, help="passes over the data; parts of one are fine")
    loop.add_argument("--batch-size", type=int, default=16, help="windows of a micro-batch")
    loop.add_argument("--accumulate", type=int, default=1, help="micro-batches of a step")
    loop.add_argument("--lr", type=float, default=1e-4, help="peak learning rate")
    loop.add_argument("--warmup", type=float, default=0.05, help="share of the steps; then a linear decay")
    loop.add_argument("--weight-decay", type=float, default=0.01, help="of AdamW")
    loop.add_argument("--clip", type=float, default=1.0, help="largest gradient norm")
    loop.add_argument(
        "--ema",
        type=float,
        default=0.0,
        metavar="DECAY",
        help="judge and save the exponential moving average of the weights, such as 0.999; 0 switches it off",
    )
    loop.add_argument("--dropout", type=float, default=0.0, help="without a teacher; costs half the speed on a CPU")
    loop.add_argument("--freeze-embeddings", action=switch, default=True, help="leave word embeddings as they are")
    loop.add_argument("--bf16", action=switch, default=True, help="autocast to bfloat16")
    loop.add_argument("--seed", type=int, default=0, help="of the order, the moved questions and the head")
    loop.add_argument("--evaluate-every", type=int, default=1000, help="steps")
    loop.add_argument(
        "--patience",
        type=int,
        default=2,
        help="evaluations without a gain before the run stops; a killed run may go on with another",
    )
    loop.add_argument("--checkpoint-every", type=int, default=200, help="steps")


def _add_losses(losses: argparse._ArgumentGroup) -> None:
    losses.add_argument("--hard", type=float, default=0.3, help="hard labels")
    losses.add_argument("--soft", type=float, default=0.7, help="the soft targets of the teachers")
    losses.add_argument("--hidden", type=float, default=1.0, help="hidden states, layer by layer")
    losses.add_argument("--relation", type=float, default=1.0, help="relations of the last layer's values")
    losses.add_argument("--temperature", type=float, default=2.0, help="of the soft targets")
