"""Measures the DistilBERT paper's table 3: a pass over STS-B dev at batch 1, at full size."""

import json
import logging
import os
import sys
import warnings
from collections.abc import Callable, Sequence
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter
from typing import Annotated

from models.tasks.errors import needs_extra, run_command
from models.tasks.options import Flag, Options, read_options

with needs_extra("python -m export.bench.table3", "train"):
    import numpy as np
    import torch
    from tokenizers import Tokenizer
    from tqdm import tqdm
    from transformers import AutoModelForSequenceClassification, BertConfig, DistilBertConfig, PreTrainedModel
    from transformers.utils import logging as transformers_logging

    from export.bench.__main__ import rewrite_file, run_of
    from export.bench.elmo import CHARACTERS, WORD_LENGTH, ElmoPair
    from export.bench.sts_lengths import Lengths, known_lengths, read_lengths
    from export.graph.convert import convert
    from export.graph.quantize import quantize
    from models.finetune.recipes import RECIPES
    from models.predict import torch_run
    from models.tasks.base import Features, Run

PAPER_S = {"ELMo": 895, "BERT-base": 668, "DistilBERT": 410}
TORCH, ONNX, INT8 = "PyTorch fp32", "onnxruntime fp32", "onnxruntime int8"
BLOCK = 10  # pairs that a model reads in one turn
WARM_UP = 3
TASK = next(task for task, recipe in RECIPES.items() if recipe.optimum_task == "text-classification")

# A student's layers of 384; the others are transformers' defaults, which are the published sizes.
CONFIGS: dict[str, BertConfig | DistilBertConfig] = {
    "BERT-base": BertConfig(num_labels=1),
    "DistilBERT": DistilBertConfig(num_labels=1),
    "halfdepth, 6 layers of 384": DistilBertConfig(n_layers=6, dim=384, n_heads=12, hidden_dim=1536, num_labels=1),
    "halfdepth, 3 layers of 384": DistilBertConfig(n_layers=3, dim=384, n_heads=12, hidden_dim=1536, num_labels=1),
}
OURS = "halfdepth"


@dataclass(frozen=True, slots=True, kw_only=True)
class Table3Options(Options):
    """Measure a pass over STS-B dev at batch 1 on this CPU, for the architectures of the DistilBERT paper's table 3.

    ELMo with the encoder of GLUE's baseline, BERT-base, DistilBERT and our students, all with random weights, which do
    not change the time. Models are run in turns of 10 pairs. A part of the pairs is read, every length in proportion,
    and its seconds are multiplied; a row tells how many. Rows are printed as JSON.
    """

    data: Annotated[
        Path | None, Flag("table of pairs to take lengths from (default: those of STS-B dev)", metavar="FILE")
    ] = None
    slice: Annotated[int, Flag("pairs to read; 1500 is the whole of STS-B dev", above=0, metavar="N")] = 150
    threads: Annotated[int | None, Flag("threads (default: one for each core)", above=0)] = None
    bundle: Annotated[Path, Flag("directory whose tokenizer.json counts the tokens of --data", metavar="DIR")] = Path(
        "bundles/similarity"
    )


@dataclass(frozen=True, slots=True)
class Subject:
    """Describes what is timed: `read` reads the pair of this number."""

    model: str
    backend: str
    parameters: int
    read: Callable[[int], object]


def main(argv: Sequence[str] | None = None, *, prog: str = "python -m export.bench.table3") -> int:
    return run_command(prog, run, prog, argv)


def run(prog: str, argv: Sequence[str] | None) -> None:
    """Raises: DataError, UsageError."""
    options = read_options(Table3Options, prog, argv)
    transformers_logging.set_verbosity_error()
    logging.getLogger("optimum").setLevel(logging.ERROR)
    threads = options.threads or len(os.sched_getaffinity(0))
    torch.set_num_threads(threads)
    lengths = known_lengths()
    if options.data:
        tokenizer = Tokenizer.from_file(str(options.bundle / "tokenizer.json"))
        tokenizer.no_truncation()
        tokenizer.no_padding()
        lengths = read_lengths(options.data, tokenizer)
    # PyTorch says so of ELMo's LSTMs; they run by its own products.
    warnings.filterwarnings("ignore", "LSTM with projections is not supported with oneDNN")
    pairs = min(options.slice, len(lengths.tokens))
    with TemporaryDirectory() as directory, torch.random.fork_rng():
        torch.manual_seed(0)
        subjects = make_subjects(lengths.part(pairs), Path(directory), threads)
        seconds = timed(subjects, pairs)
    for subject, part_s in zip(subjects, seconds, strict=True):
        row = {
            "model": subject.model,
            "parameters_m": round(subject.parameters / 1e6, 1),
            "seconds": round(part_s * len(lengths.tokens) / pairs, 2),
            "paper_seconds": PAPER_S.get(subject.model),
            "backend": subject.backend,
            "pairs": len(lengths.tokens),
            "pairs_read": pairs,
            "threads": threads,
            "weights": "random",
        }
        sys.stdout.write(json.dumps(row) + "\n")


def make_subjects(lengths: Lengths, directory: Path, threads: int) -> list[Subject]:
    """Build every model and its graphs."""
    random = np.random.default_rng(0)
    windows = [
        Features(random.integers(1000, 30000, tokens), np.arange(tokens) // (tokens // 2 + 1))
        for tokens in lengths.tokens
    ]
    sentences = [torch.from_numpy(random.integers(1, CHARACTERS, (words, WORD_LENGTH))) for words in lengths.words]
    elmo = ElmoPair().eval()

    @torch.inference_mode()
    def read_by_elmo(number: int) -> object:
        return elmo(sentences[2 * number], sentences[2 * number + 1])

    subjects = [Subject("ELMo", TORCH, count(elmo), read_by_elmo)]
    for name, config in tqdm(CONFIGS.items(), desc="models", unit="model"):
        runs = {TORCH: torch_run(_model(config, "sdpa"), RECIPES[TASK].spec.graph_outputs)}
        model, fp32, int8 = _model(config, "eager"), directory / "fp32.onnx", directory / "int8.onnx"
        convert(model, TASK, fp32)
        runs[ONNX] = run_of(fp32, threads)
        if name.startswith(OURS):
            quantize(fp32, int8)
            runs[INT8] = run_of(int8, threads, rewrite_file(int8, "int8"))
        subjects += [Subject(name, backend, count(model), _reader(run, windows)) for backend, run in runs.items()]
    return subjects


def timed(subjects: Sequence[Subject], pairs: int) -> list[float]:
    """Returns: seconds of each over all the pairs; they take turns, so that all meet the same machine."""
    seconds = [0.0] * len(subjects)
    for subject in subjects:
        for number in range(min(WARM_UP, pairs)):
            subject.read(number)
    for begin in tqdm(range(0, pairs, BLOCK), desc="pairs", unit=f"{BLOCK} pairs"):
        for place, subject in enumerate(subjects):
            began = perf_counter()
            for number in range(begin, min(begin + BLOCK, pairs)):
                subject.read(number)
            seconds[place] += perf_counter() - began
    return seconds


def count(model: torch.nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


def _model(config: BertConfig | DistilBertConfig, attention: str) -> PreTrainedModel:
    # A copy: the kind of attention is written into it, and read by the model later on.
    model: PreTrainedModel = AutoModelForSequenceClassification.from_config(
        deepcopy(config), attn_implementation=attention
    )
    model.eval()
    return model


def _reader(run: Run, windows: Sequence[Features]) -> Callable[[int], object]:
    return lambda number: run(windows[number])


if __name__ == "__main__":
    sys.exit(main())
