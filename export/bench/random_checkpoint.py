"""Writes a DistilBERT-base with random weights, and the tokenizer and labels of a bundle."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from models.tasks.bundle import load_bundle
from models.tasks.errors import needs_extra, run_command
from models.tasks.options import Flag, Options, read_options

with needs_extra("python -m export.bench.random_checkpoint", "train"):
    import torch
    from transformers import AutoConfig, AutoTokenizer

    from export.bench.stock import SHAPES
    from models.finetune.recipes import RECIPES


@dataclass(frozen=True, slots=True, kw_only=True)
class RandomCheckpointOptions(Options):
    """Write a checkpoint of DistilBERT with random weights, for measurements of speed, which weights do not change."""

    like: Annotated[Path, Flag("bundle whose task, tokenizer and labels it gets", metavar="BUNDLE")]
    out: Annotated[Path, Flag("directory to write", metavar="DIR")]
    shape: Annotated[str, Flag("layers and widths", choices=SHAPES)] = "DistilBERT-base"


def main(argv: Sequence[str] | None = None, *, prog: str = "python -m export.bench.random_checkpoint") -> int:
    return run_command(prog, run, prog, argv)


def run(prog: str, argv: Sequence[str] | None) -> None:
    """Raises: BundleError, UsageError."""
    options = read_options(RandomCheckpointOptions, prog, argv)
    bundle = load_bundle(options.like)
    layers, width, heads, inner = SHAPES[options.shape]
    config = AutoConfig.from_pretrained(bundle.path)
    config.update({"n_layers": layers, "dim": width, "n_heads": heads, "hidden_dim": inner})
    with torch.random.fork_rng():
        torch.manual_seed(0)
        RECIPES[bundle.task].student_class(config).save_pretrained(options.out)
    AutoTokenizer.from_pretrained(bundle.path).save_pretrained(options.out)


if __name__ == "__main__":
    sys.exit(main())
