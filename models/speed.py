"""Measures tokens a second of the pretraining loop beside transformers' Trainer."""

import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from models.tasks.errors import needs_extra, run_command
from models.tasks.options import Flag, Options, read_options

with needs_extra("python -m models.speed", "train"):
    import numpy as np
    import torch
    from accelerate import Accelerator
    from torch.utils.data import Dataset
    from transformers import (
        DataCollatorForLanguageModeling,
        DistilBertConfig,
        DistilBertForMaskedLM,
        PreTrainedModel,
        Trainer,
        TrainingArguments,
    )

    from models.predict import training_device
    from models.pretrain.corpus import Batches, Corpus, read_corpus
    from models.pretrain.loop import train
    from models.pretrain.masked_lm import MaskedLM, load_teacher
    from models.pretrain.masking import SHARE, MaskedBatches, masking_odds
    from models.pretrain.objective import TripleLoss, TripleWeights
    from models.pretrain.options import PretrainLoop
    from models.student import make_student, spread_layers
    from models.teachers import load_tokenizer


class Windows(Dataset[dict[str, Any]]):
    """Gives the corpus the form that the Trainer wants."""

    def __init__(self, corpus: Corpus) -> None:
        self.corpus = corpus

    def __len__(self) -> int:
        return len(self.corpus)

    def __getitem__(self, index: int) -> dict[str, Any]:
        ids, _ = self.corpus.read(np.array([index]), pad_token_id=0)
        return {"input_ids": ids[0]}


class Counting:
    """Counts real tokens while it collates (the Trainer's count warns); a batch fetched ahead counts in its favour."""

    def __init__(self, collator: DataCollatorForLanguageModeling) -> None:
        self.collator, self.tokens = collator, 0

    def __call__(self, examples: list[dict[str, Any]]) -> dict[str, Any]:
        self.tokens += sum(len(example["input_ids"]) for example in examples)
        batch: dict[str, Any] = self.collator(examples)
        return batch


@dataclass(frozen=True, slots=True, kw_only=True)
class SpeedOptions(Options):
    """Measure tokens a second of the pretraining loop beside transformers' Trainer.

    Both fit only masked tokens, since the Trainer knows no teacher. Rounds are taken in turns. With --peak-tflops, our
    share of what the device can do as well (model FLOP utilization).
    """

    teacher: Annotated[str, Flag("teacher; a student of half its depth is trained", metavar="DIR_OR_NAME")]
    train: Annotated[tuple[str, ...], Flag("training text, as for halfdepth pretrain", metavar="FILE_OR_NAME")]
    cache: Annotated[
        Path | None, Flag("directory for tokenized text (default: the cache of `datasets`)", metavar="DIR")
    ] = None
    batch_size: Annotated[int, Flag("windows in a batch", above=0)] = 16
    max_length: Annotated[int, Flag("maximum length of a window, tokens", above=0)] = 128
    steps: Annotated[int, Flag("optimizer steps in a round", above=0)] = 40
    rounds: Annotated[int, Flag("rounds of each loop, taken in turns", above=0)] = 5
    bf16: Annotated[bool, Flag("train with bfloat16 autocast")] = True
    peak_tflops: Annotated[
        float | None,
        Flag("dense TFLOP/s of the device at this precision, by its data sheet", metavar="N", above=0),
    ] = None


@dataclass(frozen=True, slots=True)
class Measurement:
    """Holds the real tokens a second of each round, and what one token costs our loop."""

    loop_rates: list[float]
    trainer_rates: list[float]
    flops_per_token: float


def flops_per_token(student: DistilBertConfig, window: float) -> float:
    """Count the operations of a token in our loop: the products of the layers, and of the head for masked tokens.

    `window`: tokens that attend to each other, on average. Source: Chowdhery et al. 2022, PaLM, appendix B: a product
    takes two operations for each of its weights, and the backward pass twice the forward one.
    """
    width = student.dim
    layer = 4 * width**2 + 2 * width * student.hidden_dim + 2 * window * width
    head = SHARE * (width**2 + width * student.vocab_size)
    return float(3 * 2 * (student.n_layers * layer + head))


def measure(options: SpeedOptions) -> Measurement:
    teacher, _ = load_teacher(options.teacher)
    tokenizer = load_tokenizer(options.teacher)
    corpus = read_corpus(options.train, tokenizer.backend_tokenizer, max_length=options.max_length, cache=options.cache)
    depth = teacher.config.num_hidden_layers
    layers = spread_layers(max(1, depth // 2), depth)
    loop_rates, trainer_rates = list[float](), list[float]()
    for number in range(options.rounds):
        with tempfile.TemporaryDirectory() as directory:
            turns = (run_pretraining, run_trainer) if number % 2 else (run_trainer, run_pretraining)
            for turn in turns:
                student = make_student(teacher, DistilBertForMaskedLM, layers)
                rates = loop_rates if turn is run_pretraining else trainer_rates
                rates.append(turn(options, student, tokenizer, corpus, Path(directory), number))
    window = float(np.mean(corpus.lengths))
    return Measurement(loop_rates, trainer_rates, flops_per_token(student.config, window))


def run_pretraining(
    options: SpeedOptions, student: PreTrainedModel, tokenizer: Any, corpus: Corpus, out: Path, seed: int
) -> float:
    accelerator, model = Accelerator(cpu=training_device().type == "cpu"), MaskedLM(student, bf16=options.bf16)
    odds = torch.from_numpy(masking_odds(corpus.counts(student.config.vocab_size), tokenizer))
    ids = {"mask_token_id": tokenizer.mask_token_id, "pad_token_id": tokenizer.pad_token_id}
    batches = MaskedBatches(Batches(corpus, options.batch_size, seed=seed), odds.to(accelerator.device), **ids)
    loss, loop = TripleLoss(model, None, TripleWeights(mlm=1.0)), PretrainLoop(dev_batches=1)
    began = time.monotonic()
    progress, _ = train(accelerator, model, loss, batches, batches, loop, steps=options.steps, out=out, identity={})
    return progress.tokens / (time.monotonic() - began)


def run_trainer(
    options: SpeedOptions, student: PreTrainedModel, tokenizer: Any, corpus: Corpus, out: Path, seed: int
) -> float:
    training = TrainingArguments(
        output_dir=str(out),
        per_device_train_batch_size=options.batch_size,
        max_steps=options.steps,
        learning_rate=5e-4,
        bf16=options.bf16,
        use_cpu=training_device().type == "cpu",
        logging_steps=10,
        save_strategy="no",
        report_to=[],
        seed=seed,
    )
    count = Counting(DataCollatorForLanguageModeling(tokenizer, mlm_probability=0.15))
    run = Trainer(student, training, data_collator=count, train_dataset=Windows(corpus), processing_class=tokenizer)
    began = time.monotonic()
    run.train()
    seconds = time.monotonic() - began
    return count.tokens / seconds


def main(argv: Sequence[str] | None = None, *, prog: str = "python -m models.speed") -> int:
    return run_command(prog, run, prog, argv)


def run(prog: str, argv: Sequence[str] | None) -> None:
    """Print the medians, their ratio and what our loop does of the device's peak."""
    options = read_options(SpeedOptions, prog, argv)
    measurement = measure(options)
    loop_median, trainer_median = map(statistics.median, (measurement.loop_rates, measurement.trainer_rates))
    pairs = zip(measurement.loop_rates, measurement.trainer_rates, strict=True)
    ratio = statistics.median(loop_rate / trainer_rate for loop_rate, trainer_rate in pairs)
    tflops = loop_median * measurement.flops_per_token / 1e12
    sys.stdout.write(
        f"tokens a second, median of {options.rounds} rounds of {options.steps} steps\n"
        f"models.pretrain {loop_median:9.0f}\ntransformers    {trainer_median:9.0f}\n"
        f"ratio, pair by pair {ratio:5.2f}\n"
        f"ours: {measurement.flops_per_token / 1e9:.3f} GFLOP for a token, {tflops:.3f} TFLOP/s"
        + (f", {tflops / options.peak_tflops:.1%} of the peak\n" if options.peak_tflops else "\n")
    )


if __name__ == "__main__":
    sys.exit(main())
