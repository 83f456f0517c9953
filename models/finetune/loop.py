"""Fine-tunes a model on a task, or distils fine-tuned teachers into a student of fewer layers."""

import json
import math
import shlex
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from tqdm import tqdm
from transformers import PretrainedConfig, PreTrainedModel, get_linear_schedule_with_warmup

from models.checkpoint import Checkpoint, CheckpointError
from models.data import Batch, DataError, Item, collate, length_buckets
from models.devset import DevOptions, score_all
from models.finetune.objective import Objective, Weights, shares_of
from models.finetune.options import FinetuneOptions
from models.finetune.recipe import Recipe
from models.finetune.recipes import RECIPES
from models.finetune.teacher_cache import taught_items
from models.predict import answer_all, training_device
from models.provenance import PROVENANCE, training_data, write_provenance
from models.student import make_student, parse_layers, set_dropout
from models.tasks.base import Metrics
from models.tasks.directory.files import TOKENIZER
from models.tasks.directory.model import max_positions
from models.tasks.options import arguments_of
from models.teachers import check_alike, load_config, load_tokenizer, loading
from models.training import Progress, check_finite, identity, sigterm_noted
from models.vocabulary import one_separator, read_with

COMMAND = "models.finetune"
FREE = {"cache_teacher", "checkpoint_every", "out", "patience"}  # options that may differ when a run continues


@dataclass(slots=True)
class JudgedProgress(Progress):
    """Says where a run is, and what its evaluations have found so far."""

    best: float = -math.inf
    metrics: Metrics | None = None
    without_gain: int = 0

    def judge(self, figure: float, metrics: Metrics) -> bool:
        """Return whether this evaluation is the best so far; one without a figure (NaN) is not."""
        self.without_gain += 1
        gained = figure > self.best
        if gained:
            self.best, self.metrics, self.without_gain = figure, metrics, 0
        return gained


def finetune(options: FinetuneOptions, *, command: str | None = None) -> Metrics:
    """Train until the last step or until the dev set stops gaining; the best model ends up in `options.out`.

    `command` is for the record; by default it is the one that has these options.

    Raises: BundleError, CheckpointError, DataError, InputTooLongError, ModelError, StudentError; DivergedError if a
    loss is no longer a number; StoppedError after SIGTERM.
    """
    torch.manual_seed(options.seed)
    device = training_device()
    out = options.out
    if (out / PROVENANCE).exists():
        raise CheckpointError(f"{out} holds a finished run; use a different --out")
    out.mkdir(parents=True, exist_ok=True)

    # What the task asks for: data, head, losses.
    sources = [options.model] if options.model else list(options.teacher)
    origin = tokenizer_source(options, sources)
    tokenizer, config = load_tokenizer(origin), load_config(sources[0])
    if options.one_separator:
        one_separator(tokenizer)
    maps = check_alike(sources, tokenizer, config, origin, pairs=RECIPES[options.task].reads_pairs)
    recipe = RECIPES[options.task](options, tokenizer, config)
    dev_options = DevOptions(on_overflow=options.on_overflow, language=options.language, reading=recipe.reading)
    dev = recipe.dev_set(options.dev, dev_options)
    dev.check(recipe.task)
    origins = [*sources, *filter(None, (options.student, options.student_from))]
    files = [*options.train, *options.pairs, *options.unlabelled, *options.unlabelled_texts]
    data = training_data(files, origins, recipe.reading.skipped)

    # Models, windows, losses, optimizer.
    teachers, model = load_models(options, recipe, config)
    for teacher, ids in zip(teachers, maps, strict=False):
        if ids:
            read_with(teacher, ids)
    for network in (*teachers, model):
        nn.Module.to(network, device)  # transformers' own `to` is typed without its arguments
    items = recipe.items(teachers[0] if teachers else None)
    weights = possible_weights(options, teachers, model) if recipe.teacher_in_loop else Weights()
    if options.cache_teacher and teachers and recipe.teacher_in_loop:
        items = taught_items(options.cache_teacher, teachers, recipe, items, bf16=options.bf16)
    if options.cache_teacher or not recipe.teacher_in_loop:
        teachers = []
    average = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(options.ema)) if options.ema else None
    objective = Objective(model, teachers, recipe, weights, temperature=options.temperature, bf16=options.bf16)
    if options.freeze_embeddings:
        model.get_input_embeddings().weight.requires_grad_(False)
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(parameters, lr=options.lr, weight_decay=options.weight_decay, fused=True)
    per_epoch = -(-len(items) // (options.batch_size * options.accumulate))
    steps = max(1, round(options.epochs * per_epoch))
    scheduler = get_linear_schedule_with_warmup(optimizer, round(options.warmup * steps), steps)

    checkpoint = Checkpoint(out, identity(options, free_options=FREE), model, optimizer, scheduler, average=average)
    progress = JudgedProgress(**(checkpoint.resume() or {}))

    began = time.monotonic() - progress.seconds
    bar = tqdm(total=steps, initial=progress.step, desc=out.name, unit="step", mininterval=5)
    with sigterm_noted() as stop, bar:
        for step_batches in iterate_batches(items, options, per_epoch, progress.step):
            if progress.step == steps or progress.without_gain >= options.patience:
                break
            batches = [
                collate(batch, pad_token_id=model.config.pad_token_id or 0, device=device) for batch in step_batches
            ]
            model.train()
            sums, number = gradients(objective, batches), progress.step + 1
            last = number == steps
            logged, evaluated = number % 20 == 0, number % options.evaluate_every == 0 or last
            if device.type == "cpu" or logged or evaluated or number % options.checkpoint_every == 0:
                losses = read_losses(sums, weights)  # which waits for a GPU, so not at every step
                bar.set_postfix({name: f"{value:.3f}" for name, value in losses.items()}, refresh=False)
            torch.nn.utils.clip_grad_norm_(parameters, options.clip)
            optimizer.step()
            scheduler.step()
            optimizer.zero_grad()
            if average:
                average.update_parameters(model)

            progress.step = number
            progress.seconds = time.monotonic() - began
            bar.update()
            if logged:
                append_log(out, {"step": progress.step, "seconds": round(progress.seconds), **losses})
            if evaluated:
                judged_model = cast(PreTrainedModel, average.module) if average else model
                results = answer_all(judged_model, recipe.task, dev.inputs, bf16=options.bf16)
                metrics = score_all(results, dev, recipe.task)
                append_log(out, {"step": progress.step, "seconds": round(progress.seconds), **metrics})
                if progress.judge(metrics[recipe.spec.figure], metrics):
                    recipe.record(judged_model.config, metrics)
                    judged_model.save_pretrained(out)
            stopped = stop.is_requested and not last
            if number % options.checkpoint_every == 0 or stopped:
                checkpoint.save(asdict(progress))
            if stopped:
                raise stop.error(progress.step)

    if progress.metrics is None:
        raise DataError(f"no evaluation on {options.dev} produced a valid metric; see {out / 'log.jsonl'}")
    tokenizer.model_max_length = max_positions(model.config.to_dict())  # the teacher's may be less: it is not ours
    tokenizer.save_pretrained(out)
    recipe.close()
    write_provenance(
        out,
        command=command or shlex.join(["python", "-m", COMMAND, *arguments_of(options)]),
        seed=options.seed,
        sources=sources,
        data=data,
        metrics={options.dev.name: progress.metrics},
        seconds=progress.seconds,
    )
    checkpoint.discard()
    return progress.metrics


def load_models(
    options: FinetuneOptions, recipe: Recipe[Any], config: PretrainedConfig
) -> tuple[list[PreTrainedModel], PreTrainedModel]:
    """Load the frozen teachers, if any, and the model to train. Raises: ModelError, StudentError."""
    if options.model:
        set_dropout(config, options.dropout)
        recipe.configure(config)
        with loading(options.model):
            # A head of other labels is replaced by a new one.
            return [], recipe.model_class.from_pretrained(options.model, config=config, ignore_mismatched_sizes=True)
    teachers: list[PreTrainedModel] = []
    for name in options.teacher:
        with loading(name):
            teachers.append(recipe.model_class.from_pretrained(name).eval())
        teachers[-1].requires_grad_(False)
    if options.student_from:
        with loading(options.student_from):
            encoder = recipe.model_class.from_pretrained(options.student_from)
        recipe.configure(encoder.config)
        layers = parse_layers(options.layers, encoder.config.num_hidden_layers)
        return teachers, make_student(encoder, recipe.student_class, layers)
    if options.student:
        config = load_config(options.student)
        recipe.configure(config)
        with loading(options.student):
            return teachers, recipe.student_class.from_pretrained(
                options.student, config=config, ignore_mismatched_sizes=True
            )
    layers = parse_layers(options.layers, teachers[0].config.num_hidden_layers)
    student: PreTrainedModel = make_student(teachers[0], recipe.student_class, layers)
    return teachers, student


def tokenizer_source(options: FinetuneOptions, sources: Sequence[str]) -> str:
    """Name whose tokenizer the student reads with: its own where it has one, else its first teacher's."""
    if options.student_from:
        return options.student_from
    if options.student and (Path(options.student) / TOKENIZER).is_file():
        return options.student
    return sources[0]


def possible_weights(options: FinetuneOptions, teachers: Sequence[PreTrainedModel], model: PreTrainedModel) -> Weights:
    """Take the losses that these models do not allow out of the weights that were asked for, and say so."""
    if not teachers:
        return Weights()
    weights = Weights(options.hard, options.soft, options.hidden, options.relation)
    widths = teachers[0].config.hidden_size, model.config.hidden_size
    reason = "--cache-teacher keeps logits alone" if options.cache_teacher else ""
    if widths[0] != widths[1]:
        reason = f"the teacher has a width of {widths[0]} and the student of {widths[1]}"
    if not reason or not (weights.hidden or weights.relation):
        return weights
    sys.stderr.write(f"{reason}: the losses of hidden states and relations are off\n")
    return replace(weights, hidden=0.0, relation=0.0)


def gradients(objective: Objective, batches: Sequence[Batch]) -> dict[str, Tensor]:
    """Add up the gradients of a step's micro-batches. Returns: each loss, as a mean over all of them."""
    means: dict[str, Tensor] = {}
    for batch, shares in zip(batches, shares_of(batches), strict=True):
        losses = objective(batch)
        objective.total(losses, shares).backward()
        for name, loss in losses.items():
            scaled = shares[name] * loss.detach()
            means[name] = means[name] + scaled if name in means else scaled
    return means


def read_losses(means: Mapping[str, Tensor], weights: Weights) -> dict[str, float]:
    """Read the losses of a step. Raises: DivergedError."""
    losses = {name: mean.item() for name, mean in means.items()}
    check_finite(losses, sum(getattr(weights, name) * loss for name, loss in losses.items()))
    return losses


def iterate_batches(
    items: Sequence[Item], options: FinetuneOptions, per_epoch: int, step: int
) -> Iterator[list[list[Item]]]:
    """Yield the micro-batches of each step from `step` on, without end; the order depends only on the seed."""
    lengths = [len(item.window) for item in items]
    while True:
        epoch, within = divmod(step, per_epoch)
        buckets = length_buckets(lengths, options.batch_size, seed=options.seed, epoch=epoch)
        for number in range(within, per_epoch):
            step_buckets = buckets[number * options.accumulate : (number + 1) * options.accumulate]
            yield [[items[index] for index in bucket] for bucket in step_buckets]
            step += 1


def append_log(out: Path, row: dict[str, float]) -> None:
    with (out / "log.jsonl").open("a") as log:
        log.write(json.dumps(row) + "\n")
