"""General distillation: a student of fewer layers out of a masked language model, before any task.

The recipe is DistilBERT's (Sanh et al. 2019, arXiv:1910.01108): soft targets, masked tokens, direction of the last
hidden states.
"""

import argparse
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from torch import nn
from transformers import AutoTokenizer, DistilBertForMaskedLM, PreTrainedModel

from models.checkpoint import CheckpointError
from models.predict import training_device
from models.pretrain.corpus import Batches, Corpus, read_corpus
from models.pretrain.loop import Plan, train
from models.pretrain.masked_lm import MaskedLM, check_tokenizer, load_teacher
from models.pretrain.masking import MaskedBatches, masking_odds
from models.pretrain.objective import TripleLoss, TripleWeights
from models.provenance import PROVENANCE, write_provenance
from models.student import StudentError, make_student, parse_layers, spread_layers, student_config
from models.tasks.directory import max_positions

TEACHER = "teacher"  # where in --out a teacher with its new head is kept
NOT_THE_RUN = {"argv", "cache", "checkpoint_every", "keep", "log_every", "out"}  # may differ when a run goes on
DEV_SEED = 0  # the masks of the dev text are the same for every run
STOPPED = 143  # the exit status of a process that SIGTERM has ended


@dataclass(frozen=True, slots=True)
class Texts:
    """The corpora of a run, and what it takes to make masked batches of them."""

    train: Corpus
    dev: Corpus
    tokenizer: Any  # one of transformers' fast ones, which have no common type
    odds: torch.Tensor
    arguments: argparse.Namespace

    def batches(self, corpus: Corpus, seed: int) -> MaskedBatches:
        ids = {"mask_token_id": self.tokenizer.mask_token_id, "pad_token_id": self.tokenizer.pad_token_id}
        return MaskedBatches(Batches(corpus, self.arguments.batch_size, seed=seed), self.odds, **ids)


def pretrain(arguments: argparse.Namespace) -> dict[str, float]:
    """Train to the end; the student ends up in `--out`. Returns: its losses and masked accuracy on the dev text.

    Raises: CheckpointError, DataError, StudentError, StoppedError, FloatingPointError, OSError; ValueError if every
    loss is switched off.
    """
    out: Path = arguments.out
    weights = TripleWeights(arguments.soft, arguments.mlm, arguments.cosine, arguments.relation)
    if (out / PROVENANCE).exists():
        raise CheckpointError(f"{out} holds a finished run; give another --out")
    out.mkdir(parents=True, exist_ok=True)
    accelerator = Accelerator(cpu=training_device().type == "cpu")

    # The teacher, with a head of its own or one that is fitted here, and the text.
    torch.manual_seed(arguments.seed)
    teacher, has_head = load_teacher(arguments.teacher)
    if not (has_head or arguments.train_mlm_head):
        raise StudentError(
            f"{arguments.teacher} has no head for masked tokens; --train-mlm-head fits one on the corpus first"
        )
    texts = read_texts(arguments, accelerator, teacher)
    head = None if has_head else fit_head(accelerator, teacher, texts)
    nn.Module.to(teacher, accelerator.device)  # transformers' own `to` is typed without its arguments

    # The student and what it learns. The teacher stays outside the distributed wrapper: it never changes.
    torch.manual_seed(arguments.seed)
    student = MaskedLM(make_masked_student(arguments, teacher), bf16=arguments.bf16)
    if not (weights.soft or weights.mlm):  # nothing reads the head, and a wrapper waits for every gradient
        for parameter in student.head_parameters():
            parameter.requires_grad_(False)
    loss = TripleLoss(student, MaskedLM(teacher, bf16=arguments.bf16), weights, temperature=arguments.temperature)
    batches, dev = texts.batches(texts.train, arguments.seed), texts.batches(texts.dev, DEV_SEED)
    plan = make_plan(arguments, accelerator, batches, epochs=arguments.epochs, lr=arguments.lr)
    options = run_options(arguments, accelerator)
    progress, figures = train(accelerator, student, loss, batches, dev, plan, out=out, options=options)

    if accelerator.is_main_process:
        student.model.save_pretrained(out)
        texts.tokenizer.save_pretrained(out)
        write_provenance(
            "models.pretrain",
            arguments,
            [arguments.teacher],
            texts.train.sources,
            {" ".join(source.name for source in texts.dev.sources): figures},
            progress.seconds,
            mlm_head=head or "the teacher's own",
            tokens=progress.tokens,
            processes=accelerator.num_processes,
        )
    return figures


def read_texts(arguments: argparse.Namespace, accelerator: Accelerator, teacher: PreTrainedModel) -> Texts:
    """Raises: DataError."""
    tokenizer = AutoTokenizer.from_pretrained(arguments.teacher, use_fast=True)
    check_tokenizer(tokenizer, teacher.config, arguments.teacher)
    max_length = min(arguments.max_length, max_positions(teacher.config.to_dict()))
    with accelerator.local_main_process_first():  # which tokenizes; the others find it done
        train_corpus, dev_corpus = (
            read_corpus(sources, tokenizer.backend_tokenizer, max_length=max_length, cache=arguments.cache)
            for sources in (arguments.train, arguments.dev)
        )
    odds = masking_odds(train_corpus.counts(teacher.config.vocab_size), tokenizer)
    return Texts(train_corpus, dev_corpus, tokenizer, torch.from_numpy(odds).to(accelerator.device), arguments)


def fit_head(accelerator: Accelerator, teacher: PreTrainedModel, texts: Texts) -> dict[str, Any]:
    """Fit the teacher's new head on the corpus with its encoder frozen, and keep the whole in `--out`/teacher.

    Returns: what the provenance says of it. Any: JSON.
    """
    arguments = texts.arguments
    out: Path = arguments.out / TEACHER
    if (out / PROVENANCE).exists():
        teacher.load_state_dict(load_teacher(str(out))[0].state_dict())
        finished: dict[str, Any] = json.loads((out / PROVENANCE).read_text())
        return finished
    out.mkdir(exist_ok=True)
    model = MaskedLM(teacher, bf16=arguments.bf16)
    # How often each token is masked is known beforehand; learned, it would take most of the steps.
    often = torch.from_numpy(texts.train.counts(teacher.config.vocab_size)).to(texts.odds.device) * texts.odds
    teacher.get_output_embeddings().bias.data.copy_(torch.log(often.clamp(min=often[often > 0].min()) / often.sum()))
    for parameter in model.head_parameters():
        parameter.requires_grad_(True)
    loss = TripleLoss(model, None, TripleWeights(mlm=1.0))
    batches, dev = texts.batches(texts.train, arguments.seed), texts.batches(texts.dev, DEV_SEED)
    plan = make_plan(arguments, accelerator, batches, epochs=arguments.head_epochs, lr=arguments.head_lr)
    options = run_options(arguments, accelerator)
    progress, figures = train(accelerator, model, loss, batches, dev, plan, out=out, options=options)
    teacher.requires_grad_(False)
    accelerator.free_memory()
    record = {
        "fitted": "decoder tied to the word embeddings, encoder frozen",
        "epochs": arguments.head_epochs,
        "lr": arguments.head_lr,
        "tokens": progress.tokens,
        "metrics": figures,
    }
    if accelerator.is_main_process:
        teacher.save_pretrained(out)
        texts.tokenizer.save_pretrained(out)
        (out / PROVENANCE).write_text(json.dumps(record, indent=2) + "\n")
    accelerator.wait_for_everyone()
    return record


def make_masked_student(arguments: argparse.Namespace, teacher: PreTrainedModel) -> DistilBertForMaskedLM:
    """Raises: StudentError."""
    depth = teacher.config.num_hidden_layers
    random = arguments.init == "random"
    if random and arguments.layers and arguments.layers.isdecimal():
        depth = max(depth, int(arguments.layers))  # nothing is copied, so there may be more of them
    layers = parse_layers(arguments.layers, depth) if arguments.layers else spread_layers(max(1, depth // 2), depth)
    if random:
        return DistilBertForMaskedLM(student_config(teacher.config, layers, arguments.hidden_size))
    return make_student(teacher, DistilBertForMaskedLM, layers)


def make_plan(
    arguments: argparse.Namespace, accelerator: Accelerator, batches: MaskedBatches, *, epochs: float, lr: float
) -> Plan:
    window = arguments.accumulate * accelerator.num_processes
    return Plan(
        steps=max(1, round(epochs * batches.batches.per_epoch / window)),
        accumulate=arguments.accumulate,
        lr=lr,
        warmup=arguments.warmup,
        weight_decay=arguments.weight_decay,
        clip=arguments.clip,
        log_every=arguments.log_every,
        evaluate_every=arguments.evaluate_every,
        checkpoint_every=arguments.checkpoint_every,
        dev_batches=arguments.dev_batches,
        keep=arguments.keep,
    )


def run_options(arguments: argparse.Namespace, accelerator: Accelerator) -> dict[str, str]:
    """What a run that goes on must share with the one before."""
    options = {name: str(value) for name, value in vars(arguments).items() if name not in NOT_THE_RUN}
    return options | {"processes": str(accelerator.num_processes)}
