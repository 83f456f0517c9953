"""Distils a masked language model into a student of fewer layers, before any task.

The recipe is DistilBERT's (Sanh et al. 2019, arXiv:1910.01108): soft targets, masked tokens, direction of the last
hidden states.
"""

import json
import shlex
from dataclasses import dataclass, replace
from typing import Any

import torch
from accelerate import Accelerator
from torch import nn
from transformers import DistilBertForMaskedLM, PreTrainedModel

from models.checkpoint import claim, discard_checkpoints, is_finished
from models.files import write_whole
from models.predict import training_device
from models.pretrain.corpus import Batches, Corpus, read_corpus
from models.pretrain.loop import train
from models.pretrain.loss_log import LOG
from models.pretrain.masked_lm import MaskedLM, check_masks, load_teacher
from models.pretrain.masking import MaskedBatches, masking_odds
from models.pretrain.objective import TripleLoss, TripleWeights
from models.pretrain.options import MAX_LENGTH, PretrainOptions
from models.provenance import PROVENANCE, write_provenance
from models.student import StudentError, make_student, parse_layers, spread_layers, student_config
from models.tasks.directory.model import max_positions
from models.tasks.options import arguments_of
from models.teachers import ModelError, load_tokenizer
from models.teaching.tokenizer import save_tokenizer
from models.training import identity

TEACHER = "teacher"  # where in --out a teacher with its new head is kept
COMMAND = "models.pretrain"
FREE = {"cache", "checkpoint_every", "keep", "log_every", "out"}  # options that may differ when a run continues
DEV_SEED = 0  # the masks of the dev text are the same for every run


@dataclass(frozen=True, slots=True)
class Texts:
    """Holds the corpora of a run, and what it takes to make masked batches of them."""

    train: Corpus
    dev: Corpus
    tokenizer: Any  # one of transformers' fast ones, which have no common type
    odds: torch.Tensor

    def batches(self, options: PretrainOptions) -> tuple[MaskedBatches, MaskedBatches]:
        """Return the batches of the training text, and those of the dev text."""
        ids = {"mask_token_id": self.tokenizer.mask_token_id, "pad_token_id": self.tokenizer.pad_token_id}
        train, dev = (
            MaskedBatches(Batches(corpus, options.batch_size, seed=seed), self.odds, **ids)
            for corpus, seed in ((self.train, options.seed), (self.dev, DEV_SEED))
        )
        return train, dev


def pretrain(options: PretrainOptions, *, command: str | None = None) -> dict[str, float]:
    """Train to the end; the student ends up in `options.out`. Returns: its losses and masked accuracy on the dev text.

    `command` is for the record; by default it is the one that has these options.

    Raises: CheckpointError, DataError, ModelError, StudentError, OSError; DivergedError if a loss is no longer a
    number; StoppedError after SIGTERM or Ctrl-C.
    """
    out = options.out
    claim(out, [options.teacher], log=LOG)
    accelerator = Accelerator(cpu=training_device().type == "cpu")

    # The teacher, with a head of its own or one that is fitted here, and the text.
    torch.manual_seed(options.seed)
    teacher, has_head = load_teacher(options.teacher)
    if not (has_head or options.train_mlm_head):
        raise StudentError(
            f"{options.teacher} has no head for masked tokens; --train-mlm-head fits one on the corpus first"
        )
    student_config(teacher.config, student_layers(options, teacher), options.hidden_size)  # before hours of a head
    texts = read_texts(options, accelerator, teacher)
    head = None if has_head else fit_head(options, accelerator, teacher, texts)
    nn.Module.to(teacher, accelerator.device)  # transformers' own `to` is typed without its arguments

    # The student and what it learns. The teacher stays outside the distributed wrapper: it never changes.
    torch.manual_seed(options.seed)
    student = MaskedLM(make_masked_student(options, teacher), bf16=options.bf16)
    weights = TripleWeights(options.soft, options.mlm, options.cosine, options.relation)
    if not (weights.soft or weights.mlm):  # nothing reads the head, and a wrapper waits for every gradient
        for parameter in student.head_parameters():
            parameter.requires_grad_(False)
    loss = TripleLoss(student, MaskedLM(teacher, bf16=options.bf16), weights, temperature=options.temperature)
    batches, dev = texts.batches(options)
    progress, figures = train(
        accelerator,
        student,
        loss,
        batches,
        dev,
        options,
        steps=steps_of(options, accelerator, batches),
        out=out,
        identity=run_identity(options, accelerator),
    )

    if accelerator.is_main_process:
        student.model.save_pretrained(out)
        save_tokenizer(texts.tokenizer, student.model, out)
        write_provenance(
            out,
            command=command or shlex.join(["python", "-m", COMMAND, *arguments_of(options)]),
            seed=options.seed,
            sources=[options.teacher],
            data=texts.train.sources,
            metrics={" ".join(source.name for source in texts.dev.sources): figures},
            seconds=progress.seconds,
            mlm_head=head or "the teacher's own",
            tokens=progress.tokens,
            processes=accelerator.num_processes,
        )
        discard_checkpoints(out)
    return figures


def read_texts(options: PretrainOptions, accelerator: Accelerator, teacher: PreTrainedModel) -> Texts:
    """Read both corpora by the teacher's tokenizer. Raises: DataError, ModelError."""
    tokenizer = load_tokenizer(options.teacher)
    check_masks(tokenizer, teacher.config, options.teacher)
    limit = max_positions(teacher.config.to_dict())
    if options.max_length > limit and options.max_length != MAX_LENGTH:
        raise ModelError(
            f"--max-length {options.max_length} is more than the {limit} tokens that {options.teacher} reads"
        )
    max_length = min(options.max_length, limit)
    with accelerator.local_main_process_first():  # which tokenizes; the others find it done
        train_corpus, dev_corpus = (
            read_corpus(sources, tokenizer.backend_tokenizer, max_length=max_length, cache=options.cache)
            for sources in (options.train, options.dev)
        )
    odds = masking_odds(train_corpus.counts(teacher.config.vocab_size), tokenizer)
    return Texts(train_corpus, dev_corpus, tokenizer, torch.from_numpy(odds).to(accelerator.device))


def fit_head(
    options: PretrainOptions, accelerator: Accelerator, teacher: PreTrainedModel, texts: Texts
) -> dict[str, Any]:
    """Fit the teacher's new head on the corpus with its encoder frozen, and keep the whole in `options.out`/teacher.

    Returns: what the provenance says of it. Any: JSON.
    """
    out = options.out / TEACHER
    if is_finished(out):
        teacher.load_state_dict(load_teacher(str(out))[0].state_dict())
        finished_record: dict[str, Any] = json.loads((out / PROVENANCE).read_text())
        return finished_record
    out.mkdir(exist_ok=True)
    model = MaskedLM(teacher, bf16=options.bf16)
    # How often each token is masked is known beforehand; learned, it would take most of the steps.
    frequencies = torch.from_numpy(texts.train.counts(teacher.config.vocab_size)).to(texts.odds.device) * texts.odds
    smallest = frequencies[frequencies > 0].min()
    bias = torch.log(frequencies.clamp(min=smallest) / frequencies.sum())
    teacher.get_output_embeddings().bias.data.copy_(bias)
    for parameter in model.head_parameters():
        parameter.requires_grad_(True)
    loss = TripleLoss(model, None, TripleWeights(mlm=1.0))
    batches, dev = texts.batches(options)
    loop = replace(options, epochs=options.head_epochs, lr=options.head_lr)
    progress, figures = train(
        accelerator,
        model,
        loss,
        batches,
        dev,
        loop,
        steps=steps_of(loop, accelerator, batches),
        out=out,
        identity=run_identity(options, accelerator),
    )
    teacher.requires_grad_(False)
    accelerator.free_memory()
    record = {
        "fitted": "decoder tied to the word embeddings, encoder frozen",
        "epochs": options.head_epochs,
        "lr": options.head_lr,
        "tokens": progress.tokens,
        "metrics": figures,
    }
    if accelerator.is_main_process:
        teacher.save_pretrained(out)
        save_tokenizer(texts.tokenizer, teacher, out)
        write_whole(out / PROVENANCE, json.dumps(record, indent=2) + "\n")
        discard_checkpoints(out)
    accelerator.wait_for_everyone()
    return record


def make_masked_student(options: PretrainOptions, teacher: PreTrainedModel) -> DistilBertForMaskedLM:
    """Make a student with the first weights that the options ask for. Raises: StudentError."""
    layers = student_layers(options, teacher)
    if options.init == "random":
        return DistilBertForMaskedLM(student_config(teacher.config, layers, options.hidden_size))
    return make_student(teacher, DistilBertForMaskedLM, layers)


def student_layers(options: PretrainOptions, teacher: PreTrainedModel) -> tuple[int, ...]:
    """Choose the teacher's layers that a student begins with, or as many as it has of its own. Raises: StudentError."""
    depth = teacher.config.num_hidden_layers
    if options.init == "random" and options.layers and options.layers.isdecimal():
        depth = max(depth, int(options.layers))  # nothing is copied, so there may be more of them
    return parse_layers(options.layers, depth) if options.layers else spread_layers(max(1, depth // 2), depth)


def steps_of(options: PretrainOptions, accelerator: Accelerator, batches: MaskedBatches) -> int:
    """Return the steps of all epochs: in each, every process takes `accumulate` micro-batches."""
    window: int = options.accumulate * accelerator.num_processes
    return max(1, round(options.epochs * batches.batches.per_epoch / window))


def run_identity(options: PretrainOptions, accelerator: Accelerator) -> dict[str, str]:
    """Return what a run that continues must share with the one before."""
    return identity(options, free_options=FREE) | {"processes": str(accelerator.num_processes)}
