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

from models.checkpoint import Checkpoint, discard_checkpoints
from models.data import Batch, DataError, Item, collate, length_buckets
from models.devset import score_all
from models.files import write_whole
from models.finetune.objective import Objective, Weights, shares_of
from models.finetune.options import FinetuneOptions
from models.finetune.prepare import LOG, Prepared, prepare
from models.finetune.recipe import Recipe
from models.finetune.teacher_cache import LOGITS, taught_items
from models.predict import answer_all, training_device, value_projections
from models.provenance import Teacher, origin_of, teachers_of, training_data, write_provenance
from models.student import make_student, parse_layers, set_dropout
from models.tasks.base import Metrics
from models.tasks.options import arguments_of
from models.teachers import ModelError, load_config, load_model
from models.teaching.tokenizer import save_tokenizer
from models.teaching.vocabulary import read_with
from models.training import Progress, check_finite, identity, signals_noted

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


@dataclass(frozen=True, slots=True)
class Lesson:
    """Holds what a run trains and learns from. `average`: of the weights of the objective's model."""

    objective: Objective
    average: AveragedModel | None
    items: Sequence[Item]
    taught_by: Sequence[Teacher]

    @property
    def judged_model(self) -> PreTrainedModel:
        return cast(PreTrainedModel, self.average.module) if self.average else self.objective.model


def finetune(options: FinetuneOptions, *, command: str | None = None) -> Metrics:
    """Train until the last step or until the dev set stops gaining; the best model ends up in `options.out`.

    `command` is for the record; by default it is the one that has these options.

    Raises: BundleError, CheckpointError, DataError, InputTooLongError, ModelError, StudentError; DivergedError if a
    loss is no longer a number; StoppedError after SIGTERM or Ctrl-C.
    """
    torch.manual_seed(options.seed)
    out, prepared = options.out, prepare(options)
    origins = [*prepared.sources, *filter(None, (options.student, options.student_from))]
    files = [*options.train, *options.pairs, *options.unlabelled, *options.unlabelled_texts]
    data = training_data(files, origins, prepared.recipe.reading.skipped)

    lesson = load_lesson(options, prepared)
    progress = train(options, prepared, lesson)

    if progress.metrics is None:
        raise DataError(f"no evaluation on {options.dev} produced a valid metric; see {out / LOG}")
    save_tokenizer(prepared.tokenizer, lesson.objective.model, out)
    prepared.recipe.close()
    for logits in out.glob(LOGITS.format("*")):  # of teachers that read texts, if they are kept nowhere else
        logits.unlink()
    write_provenance(
        out,
        command=command or shlex.join(["python", "-m", COMMAND, *arguments_of(options)]),
        seed=options.seed,
        sources=prepared.sources,
        data=data,
        metrics={options.dev.name: progress.metrics},
        seconds=progress.seconds,
        teachers=lesson.taught_by,
    )
    discard_checkpoints(out)
    return progress.metrics


def load_lesson(options: FinetuneOptions, prepared: Prepared) -> Lesson:
    """Load the models, encode the training files, and weigh the losses that these allow.

    Raises: BundleError, DataError, ModelError, StudentError.
    """
    device, recipe = training_device(), prepared.recipe
    teachers, model = load_models(options, recipe, prepared.config)
    for teacher, reader in zip(teachers, prepared.readers, strict=True):
        read_with(teacher, reader.ids, token_types=reader.reads_token_types)
    for network in (*teachers, model):
        nn.Module.to(network, device)  # transformers' own `to` is typed without its arguments
    taught_by = describe_teachers(options, teachers)
    items = recipe.items(teachers[0] if teachers else None)
    weights = Weights()
    if teachers and recipe.teacher_in_loop:
        reads_texts = any(reader.difference for reader in prepared.readers)
        weights = possible_weights(options, teachers, model, reads_texts=reads_texts)
        if options.cache_teacher or reads_texts:
            cache = options.cache_teacher or options.out
            items = taught_items(cache, teachers, recipe, items, bf16=options.bf16, readers=prepared.readers)
            teachers = []
    if not recipe.teacher_in_loop:
        teachers = []
    # The average is a copy, so it comes before the objective, which may hook into the model.
    average = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(options.ema)) if options.ema else None
    objective = Objective(model, teachers, recipe, weights, temperature=options.temperature, bf16=options.bf16)
    return Lesson(objective, average, items, taught_by)


def train(options: FinetuneOptions, prepared: Prepared, lesson: Lesson) -> JudgedProgress:
    """Train from the last checkpoint on, if there is one, and evaluate every so often.

    Raises: CheckpointError; DivergedError if a loss is no longer a number; StoppedError after SIGTERM or Ctrl-C.
    """
    out, model, average, device = options.out, lesson.objective.model, lesson.average, training_device()
    if options.freeze_embeddings:
        model.get_input_embeddings().weight.requires_grad_(False)
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(parameters, lr=options.lr, weight_decay=options.weight_decay, fused=True)
    per_epoch = -(-len(lesson.items) // (options.batch_size * options.accumulate))
    steps = max(1, round(options.epochs * per_epoch))
    scheduler = get_linear_schedule_with_warmup(optimizer, round(options.warmup * steps), steps)

    checkpoint = Checkpoint(out, identity(options, free_options=FREE), model, optimizer, scheduler, average=average)
    progress = JudgedProgress(**(checkpoint.resume() or {}))
    cut_log(out, progress.step)

    began = time.monotonic() - progress.seconds
    bar = tqdm(total=steps, initial=progress.step, desc=out.name, unit="step", mininterval=5)
    with signals_noted() as stop, bar:
        for step_batches in iterate_batches(lesson.items, options, per_epoch, progress.step):
            if progress.step == steps or progress.without_gain >= options.patience:
                break
            batches = [
                collate(batch, pad_token_id=model.config.pad_token_id or 0, device=device) for batch in step_batches
            ]
            model.train()
            sums, number = gradients(lesson.objective, batches), progress.step + 1
            last = number == steps
            logged, evaluated = number % 20 == 0, number % options.evaluate_every == 0 or last
            if device.type == "cpu" or logged or evaluated or number % options.checkpoint_every == 0:
                losses = read_losses(sums, lesson.objective.weights)  # which waits for a GPU, so not at every step
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
                evaluate(options, prepared, lesson.judged_model, progress)
            stopped = stop.is_requested and not last
            if number % options.checkpoint_every == 0 or stopped:
                checkpoint.save(asdict(progress))
            if stopped:
                raise stop.error(progress.step)
    return progress


def evaluate(options: FinetuneOptions, prepared: Prepared, model: PreTrainedModel, progress: JudgedProgress) -> None:
    """Score the model on the dev set, and save it if it is the best so far."""
    recipe, dev = prepared.recipe, prepared.dev
    results = answer_all(model, recipe.task, dev.inputs, bf16=options.bf16)
    metrics = score_all(results, dev, recipe.task)
    append_log(options.out, {"step": progress.step, "seconds": round(progress.seconds), **metrics})
    if progress.judge(metrics[recipe.spec.figure], metrics):
        recipe.record(model.config, metrics)
        model.save_pretrained(options.out)


def load_models(
    options: FinetuneOptions, recipe: Recipe[Any], config: PretrainedConfig
) -> tuple[list[PreTrainedModel], PreTrainedModel]:
    """Load the frozen teachers, if any, and the model to train. Raises: ModelError, StudentError."""
    if options.model:
        set_dropout(config, options.dropout)
        recipe.configure(config)
        return [], load_model(options.model, recipe.model_class, config=config)
    task = recipe.spec.name if recipe.has_head else None
    teachers = [load_model(name, recipe.model_class, head_for=task).eval() for name in options.teacher]
    for teacher in teachers:
        teacher.requires_grad_(False)
    if options.student_from:
        encoder = load_model(options.student_from, recipe.model_class)
        recipe.configure(encoder.config)
        layers = parse_layers(options.layers, encoder.config.num_hidden_layers)
        return teachers, make_student(encoder, recipe.student_class, layers)
    if options.student:
        config = load_config(options.student)
        recipe.configure(config)
        return teachers, load_model(options.student, recipe.student_class, config=config)
    layers = parse_layers(options.layers, teachers[0].config.num_hidden_layers)
    student: PreTrainedModel = make_student(teachers[0], recipe.student_class, layers)
    return teachers, student


def describe_teachers(options: FinetuneOptions, teachers: Sequence[PreTrainedModel]) -> list[Teacher]:
    """Describe whose outputs the model learns or, without teachers, those that the model it goes on from has learned.

    Raises: DataError, BundleError.
    """
    if options.model:
        return list(teachers_of(options.model))
    return [
        Teacher(
            name=Path(name).name if Path(name).exists() else name,
            architecture=type(teacher).__name__,
            layers=teacher.config.num_hidden_layers,
            hidden_size=teacher.config.hidden_size,
            source=origin_of(name),
        )
        for name, teacher in zip(options.teacher, teachers, strict=True)
    ]


def possible_weights(
    options: FinetuneOptions, teachers: Sequence[PreTrainedModel], model: PreTrainedModel, *, reads_texts: bool = False
) -> Weights:
    """Take the losses that these models do not allow out of the weights that were asked for, and say so.

    `reads_texts`: a teacher reads texts by its own tokenizer instead of the student's windows. Raises: ModelError if
    no loss is left.
    """
    weights = Weights(options.hard, options.soft, options.hidden, options.relation)
    widths = teachers[0].config.hidden_size, model.config.hidden_size
    reason = "--cache-teacher keeps logits alone" if options.cache_teacher else ""
    if reads_texts:
        reason = "a teacher reads by a tokenizer of its own"
    if widths[0] != widths[1]:
        reason = f"the teacher has a width of {widths[0]} and the student of {widths[1]}"
    if reason and (weights.hidden or weights.relation):
        sys.stderr.write(f"{reason}: the losses of hidden states and relations are off\n")
        weights = replace(weights, hidden=0.0, relation=0.0)
    elif weights.relation and not value_projections(teachers[0]):
        kind = teachers[0].config.model_type
        sys.stderr.write(f"a teacher of kind {kind!r} has no values to compare: the loss of relations is off\n")
        weights = replace(weights, relation=0.0)
    if not any(asdict(weights).values()):
        raise ModelError("no loss is left, so there is nothing to learn; give --hard or --soft a weight above 0")
    return weights


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


def cut_log(out: Path, step: int) -> None:
    """Drop what a run that was killed has logged behind the step that it is continued from."""
    path = out / LOG
    lines = path.read_text().splitlines(keepends=True) if path.exists() else []
    write_whole(path, "".join(line for line in lines if line.endswith("\n") and json.loads(line)["step"] <= step))


def append_log(out: Path, row: dict[str, float]) -> None:
    with (out / LOG).open("a") as log:
        log.write(json.dumps(row) + "\n")
