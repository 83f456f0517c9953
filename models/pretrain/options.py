"""The flags of `python -m models.pretrain`."""

import argparse
from collections.abc import Sequence
from pathlib import Path

ABOVE_0 = (
    "epochs",
    "batch_size",
    "accumulate",
    "lr",
    "max_length",
    "temperature",
    "head_epochs",
    "head_lr",
    "clip",
    "log_every",
    "evaluate_every",
    "checkpoint_every",
    "keep",
)


def parse_arguments(argv: Sequence[str]) -> argparse.Namespace:
    """The flags by their names, and `argv` as it was given. Ends the process with status 2 on a wrong one."""
    parser = argparse.ArgumentParser(
        prog="python -m models.pretrain",
        description="Distil a masked language model into a student of fewer layers, before any task. "
        "On many GPUs or machines: accelerate launch -m models.pretrain, or torchrun -m models.pretrain.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument("--teacher", required=True, metavar="DIR_OR_NAME", help="BERT, DistilBERT or RoBERTa kind")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="checkpoints, losses and the student")
    _add_data(parser.add_argument_group("data"))
    _add_models(parser.add_argument_group("student and teacher"))
    _add_loop(parser.add_argument_group("loop"))
    _add_losses(parser.add_argument_group("losses: what each counts, 0 switches it off"))
    arguments = parser.parse_args(argv)
    for name in ABOVE_0:
        if getattr(arguments, name) <= 0:
            parser.error(f"--{name.replace('_', '-')} must be above 0")
    if arguments.max_length < 8:
        parser.error("--max-length must be at least 8")
    if arguments.hidden_size is not None and (
        arguments.hidden_size <= 0 or arguments.init != "random" or arguments.cosine
    ):
        parser.error(
            "--hidden-size must be above 0, and goes with --init random and --cosine 0: there is no other start"
        )
    if arguments.dev_batches < 0:
        parser.error("--dev-batches must be 0 or more")
    if not 0 <= arguments.warmup < 1:
        parser.error("--warmup must be from 0 to below 1")
    arguments.argv = list(argv)
    return arguments


def _add_data(data: argparse._ArgumentGroup) -> None:
    kinds = "text files, a paragraph on each line, or datasets of the Hugging Face Hub, OWNER/NAME or OWNER/NAME:CONFIG"
    data.add_argument("--train", nargs="+", required=True, metavar="FILE_OR_NAME", help=kinds)
    data.add_argument("--dev", nargs="+", required=True, metavar="FILE_OR_NAME", help="held-out text, as --train")
    data.add_argument("--dev-batches", type=int, default=64, help="of it, for each evaluation; 0: all")
    data.add_argument("--max-length", type=int, default=128, help="tokens of a window")
    data.add_argument("--cache", type=Path, metavar="DIR", help="of tokenized text; by default that of `datasets`")


def _add_models(models: argparse._ArgumentGroup) -> None:
    models.add_argument("--layers", help="the student's: a count, or a list of the teacher's (default: half its depth)")
    models.add_argument("--init", choices=("teacher", "random"), default="teacher", help="the student's first weights")
    models.add_argument(
        "--hidden-size", type=int, help="with --init random and --cosine 0: another width than the teacher's"
    )
    models.add_argument(
        "--train-mlm-head",
        action="store_true",
        help="for a teacher without one: first fit a head for masked tokens on the corpus, its encoder frozen",
    )
    models.add_argument("--head-epochs", type=float, default=1.0, help="passes over the data for that head")
    models.add_argument("--head-lr", type=float, default=3e-3, help="peak learning rate of that head")


def _add_loop(loop: argparse._ArgumentGroup) -> None:
    switch = argparse.BooleanOptionalAction
    loop.add_argument("--epochs", type=float, default=3.0, help="passes over the data; parts of one are fine")
    loop.add_argument("--batch-size", type=int, default=16, help="windows of a micro-batch, on each process")
    loop.add_argument("--accumulate", type=int, default=1, help="micro-batches of a step, on each process")
    loop.add_argument("--lr", type=float, default=5e-4, help="peak learning rate")
    loop.add_argument("--warmup", type=float, default=0.05, help="share of the steps; then a linear decay")
    loop.add_argument("--weight-decay", type=float, default=0.01, help="of AdamW")
    loop.add_argument("--clip", type=float, default=5.0, help="largest gradient norm")
    loop.add_argument("--bf16", action=switch, default=True, help="autocast to bfloat16")
    loop.add_argument("--seed", type=int, default=0, help="of the order, the masks and random weights")
    loop.add_argument("--log-every", type=int, default=10, help="steps")
    loop.add_argument("--evaluate-every", type=int, default=500, help="steps")
    loop.add_argument("--checkpoint-every", type=int, default=200, help="steps")
    loop.add_argument("--keep", type=int, default=2, help="newest checkpoints that are kept")


def _add_losses(losses: argparse._ArgumentGroup) -> None:
    losses.add_argument("--soft", type=float, default=5.0, help="the teacher's soft targets, over all tokens")
    losses.add_argument("--mlm", type=float, default=2.0, help="masked tokens")
    losses.add_argument("--cosine", type=float, default=1.0, help="direction of the last hidden states")
    losses.add_argument("--relation", type=float, default=0.0, help="relations of the last layer's values")
    losses.add_argument("--temperature", type=float, default=2.0, help="of the soft targets")
