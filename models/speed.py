"""Measures tokens a second of the pretraining loop beside transformers' Trainer.

Both fit masked tokens alone, since the Trainer knows no teacher. Rounds are taken in turns. With --peak-tflops, our
share of what the device can do as well (model FLOP utilization).
"""

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from torch.utils.data import Dataset
from transformers import (
    AutoTokenizer,
    DataCollatorForLanguageModeling,
    DistilBertConfig,
    DistilBertForMaskedLM,
    PreTrainedModel,
    Trainer,
    TrainingArguments,
)

from models.data import DataError
from models.predict import training_device
from models.pretrain.corpus import Batches, Corpus, read_corpus
from models.pretrain.loop import Plan, train
from models.pretrain.masked_lm import MaskedLM, load_teacher
from models.pretrain.masking import SHARE, MaskedBatches, masking_odds
from models.pretrain.objective import TripleLoss, TripleWeights
from models.student import StudentError, make_student, spread_layers


class Windows(Dataset[dict[str, Any]]):
    """The corpus as the Trainer wants it."""

    def __init__(self, corpus: Corpus) -> None:
        self.corpus = corpus

    def __len__(self) -> int:
        return len(self.corpus)

    def __getitem__(self, index: int) -> dict[str, Any]:
        ids, _ = self.corpus.read(np.array([index]), pad_token_id=0)
        return {"input_ids": ids[0]}


class Counting:
    """A collator that counts real tokens: the Trainer's own count warns. A batch fetched ahead counts in its favour."""

    def __init__(self, collator: DataCollatorForLanguageModeling) -> None:
        self.collator, self.tokens = collator, 0

    def __call__(self, examples: list[dict[str, Any]]) -> dict[str, Any]:
        self.tokens += sum(len(example["input_ids"]) for example in examples)
        batch: dict[str, Any] = self.collator(examples)
        return batch


def parse_arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m models.speed", description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.add_argument(
        "--teacher", required=True, metavar="DIR_OR_NAME", help="a student of half its depth is trained"
    )
    parser.add_argument("--train", nargs="+", required=True, metavar="FILE_OR_NAME", help="as models.pretrain takes it")
    parser.add_argument("--cache", type=Path, metavar="DIR", help="of tokenized text; by default that of `datasets`")
    parser.add_argument("--batch-size", type=int, default=16, help="windows")
    parser.add_argument("--max-length", type=int, default=128, help="tokens of a window")
    parser.add_argument("--steps", type=int, default=40, help="of a round")
    parser.add_argument("--rounds", type=int, default=5, help="of each, in turns")
    parser.add_argument("--bf16", action=argparse.BooleanOptionalAction, default=True, help="autocast to bfloat16")
    parser.add_argument(
        "--peak-tflops",
        type=float,
        metavar="N",
        help="dense TFLOP/s of the device at this precision, by its data sheet",
    )
    arguments = parser.parse_args(argv)
    for name in ("batch_size", "max_length", "steps", "rounds", "peak_tflops"):
        given = getattr(arguments, name)
        if given is not None and given <= 0:
            parser.error(f"--{name.replace('_', '-')} must be above 0")
    return arguments


@dataclass(frozen=True, slots=True)
class Measured:
    """Real tokens a second of each round, and what one of them costs our loop."""

    ours: list[float]
    trainers: list[float]
    flops_per_token: float


def flops_per_token(student: DistilBertConfig, window: float) -> float:
    """Forward and backward passes of our loop: the products of the layers for every token, of the head for masked ones.

    `window`: tokens that attend to each other, on average. Source: Chowdhery et al. 2022, PaLM, appendix B: a product
    takes two operations for each of its weights, and the backward pass twice the forward one.
    """
    width = student.dim
    layer = 4 * width**2 + 2 * width * student.hidden_dim + 2 * window * width
    head = SHARE * (width**2 + width * student.vocab_size)
    return float(3 * 2 * (student.n_layers * layer + head))


def measure(arguments: argparse.Namespace) -> Measured:
    teacher, _ = load_teacher(arguments.teacher)
    tokenizer = AutoTokenizer.from_pretrained(arguments.teacher, use_fast=True)
    corpus = read_corpus(
        arguments.train, tokenizer.backend_tokenizer, max_length=arguments.max_length, cache=arguments.cache
    )
    depth = teacher.config.num_hidden_layers
    layers = spread_layers(max(1, depth // 2), depth)
    ours, trainers = list[float](), list[float]()
    for number in range(arguments.rounds):
        with tempfile.TemporaryDirectory() as directory:
            of_each = (own_loop, trainer) if number % 2 else (trainer, own_loop)
            for run in of_each:
                student = make_student(teacher, DistilBertForMaskedLM, layers)
                rates = ours if run is own_loop else trainers
                rates.append(run(arguments, student, tokenizer, corpus, Path(directory), number))
    window = float(np.mean(corpus.lengths))
    return Measured(ours, trainers, flops_per_token(student.config, window))


def own_loop(
    arguments: argparse.Namespace, student: PreTrainedModel, tokenizer: Any, corpus: Corpus, out: Path, seed: int
) -> float:
    accelerator, model = Accelerator(cpu=training_device().type == "cpu"), MaskedLM(student, bf16=arguments.bf16)
    odds = torch.from_numpy(masking_odds(corpus.counts(student.config.vocab_size), tokenizer))
    ids = {"mask_token_id": tokenizer.mask_token_id, "pad_token_id": tokenizer.pad_token_id}
    batches = MaskedBatches(Batches(corpus, arguments.batch_size, seed=seed), odds.to(accelerator.device), **ids)
    plan = Plan(steps=arguments.steps, dev_batches=1)
    began = time.monotonic()
    progress, _ = train(
        accelerator, model, TripleLoss(model, None, TripleWeights(mlm=1.0)), batches, batches, plan, out=out, options={}
    )
    return progress.tokens / (time.monotonic() - began)


def trainer(
    arguments: argparse.Namespace, student: PreTrainedModel, tokenizer: Any, corpus: Corpus, out: Path, seed: int
) -> float:
    options = TrainingArguments(
        output_dir=str(out),
        per_device_train_batch_size=arguments.batch_size,
        max_steps=arguments.steps,
        learning_rate=5e-4,
        bf16=arguments.bf16,
        use_cpu=training_device().type == "cpu",
        logging_steps=10,
        save_strategy="no",
        report_to=[],
        seed=seed,
    )
    count = Counting(DataCollatorForLanguageModeling(tokenizer, mlm_probability=0.15))
    run = Trainer(student, options, data_collator=count, train_dataset=Windows(corpus), processing_class=tokenizer)
    began = time.monotonic()
    run.train()
    seconds = time.monotonic() - began
    return count.tokens / seconds


def main(argv: Sequence[str] | None = None) -> int:
    arguments = parse_arguments(argv)
    try:
        measured = measure(arguments)
    except (DataError, StudentError, OSError) as error:
        reason = str(error).partition("\n")[0]  # libraries follow their first line with advice
        sys.stderr.write(f"python -m models.speed: {reason}\n")
        return 2
    ours, trainers = statistics.median(measured.ours), statistics.median(measured.trainers)
    ratio = statistics.median(own / its for own, its in zip(measured.ours, measured.trainers, strict=True))
    tflops = ours * measured.flops_per_token / 1e12
    sys.stdout.write(
        f"tokens a second, median of {arguments.rounds} rounds of {arguments.steps} steps\n"
        f"models.pretrain {ours:9.0f}\ntransformers    {trainers:9.0f}\n"
        f"ratio, pair by pair {ratio:5.2f}\n"
        f"ours: {measured.flops_per_token / 1e9:.3f} GFLOP for a token, {tflops:.3f} TFLOP/s"
        + (f", {tflops / arguments.peak_tflops:.1%} of the peak\n" if arguments.peak_tflops else "\n")
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
