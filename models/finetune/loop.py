"""Fine-tune a model on a task, or distil fine-tuned teachers into a student of fewer layers."""

import argparse
import json
import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, cast

import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from tqdm import tqdm
from transformers import (
    AutoConfig,
    AutoTokenizer,
    PretrainedConfig,
    PreTrainedModel,
    get_linear_schedule_with_warmup,
)

from models.checkpoint import Checkpoint, CheckpointError
from models.data import Batch, DataError, Item, collate, length_buckets
from models.devset import DevOptions, measure
from models.finetune.objective import Objective, Weights, shares_of
from models.finetune.recipe import Recipe
from models.finetune.recipes import RECIPES
from models.predict import torch_run, training_device
from models.provenance import PROVENANCE, training_data, write_provenance
from models.student import make_student, parse_layers, set_dropout
from models.tasks.base import Metrics, answerer
from models.teachers import check_alike, check_name

NOT_THE_RUN = {"argv", "checkpoint_every", "out", "patience"}  # arguments that may differ when a run goes on


@dataclass(slots=True)
class Progress:
    """Where a run is: what a checkpoint keeps beside the weights."""

    step: int = 0
    seconds: float = 0.0
    best: float = -math.inf
    metrics: Metrics | None = None
    without_gain: int = 0

    def judge(self, figure: float, metrics: Metrics) -> bool:
        """Whether this evaluation is the best so far; one without a figure (NaN) is not."""
        self.without_gain += 1
        gained = figure > self.best
        if gained:
            self.best, self.metrics, self.without_gain = figure, metrics, 0
        return gained


def finetune(arguments: argparse.Namespace) -> Metrics:
    """Train until the last step or until the dev set stops gaining; the best model ends up in `--out`."""
    torch.manual_seed(arguments.seed)
    device = training_device()
    out: Path = arguments.out
    if (out / PROVENANCE).exists():
        raise CheckpointError(f"{out} holds a finished run; give another --out")
    out.mkdir(parents=True, exist_ok=True)

    # What the task asks for: data, head, losses.
    sources = arguments.teacher or [arguments.model]
    for source in sources:
        check_name(source)
    tokenizer, config = AutoTokenizer.from_pretrained(sources[0], use_fast=True), AutoConfig.from_pretrained(sources[0])
    check_alike(sources, tokenizer, config)
    recipe = RECIPES[arguments.task](arguments, tokenizer, config)
    dev = recipe.dev_set(arguments.dev, DevOptions(on_overflow=arguments.on_overflow))
    data = training_data(arguments)

    # Models, windows, losses, optimizer.
    teachers, model = load_models(arguments, recipe, config)
    for each in (*teachers, model):
        nn.Module.to(each, device)  # transformers' own `to` is typed without its arguments
    items = recipe.items(teachers[0] if teachers else None)
    if not recipe.teacher_in_loop:
        teachers = []
    average = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(arguments.ema)) if arguments.ema else None
    weights = Weights(arguments.hard, arguments.soft, arguments.hidden, arguments.relation) if teachers else Weights()
    objective = Objective(model, teachers, recipe, weights, temperature=arguments.temperature, bf16=arguments.bf16)
    if arguments.freeze_embeddings:
        model.get_input_embeddings().weight.requires_grad_(False)
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=arguments.lr, weight_decay=arguments.weight_decay, fused=True)
    per_epoch = -(-len(items) // (arguments.batch_size * arguments.accumulate))
    steps = max(1, round(arguments.epochs * per_epoch))
    scheduler = get_linear_schedule_with_warmup(optimizer, round(arguments.warmup * steps), steps)

    options = {name: str(value) for name, value in vars(arguments).items() if name not in NOT_THE_RUN}
    checkpoint = Checkpoint(out, options, model, optimizer, scheduler, average=average)
    progress = Progress(**(checkpoint.resume() or {}))

    bar = tqdm(total=steps, initial=progress.step, desc=out.name, unit="step", mininterval=5)
    began = time.monotonic() - progress.seconds
    for chosen in iterate_batches(items, arguments, per_epoch, progress.step):
        if progress.step == steps or progress.without_gain >= arguments.patience:
            break
        batches = [collate(batch, pad_token_id=model.config.pad_token_id or 0, device=device) for batch in chosen]
        model.train()
        sums = gradients(objective, batches)
        torch.nn.utils.clip_grad_norm_(trained, arguments.clip)
        optimizer.step()
        scheduler.step()
        optimizer.zero_grad()
        if average:
            average.update_parameters(model)

        progress.step += 1
        progress.seconds = time.monotonic() - began
        bar.update()
        bar.set_postfix({name: f"{value:.3f}" for name, value in sums.items()}, refresh=False)
        if progress.step % 20 == 0:
            append_log(out, {"step": progress.step, "seconds": round(progress.seconds), **sums})
        if progress.step % arguments.evaluate_every == 0 or progress.step == steps:
            judged = cast(PreTrainedModel, average.module) if average else model
            run = torch_run(judged, recipe.task.output_names, bf16=arguments.bf16)
            metrics = measure(answerer(recipe.task, run), dev, recipe.task)
            append_log(out, {"step": progress.step, "seconds": round(progress.seconds), **metrics})
            if progress.judge(metrics[recipe.spec.figure], metrics):
                recipe.record(judged.config, metrics)
                judged.save_pretrained(out)
        if progress.step % arguments.checkpoint_every == 0:
            checkpoint.save(asdict(progress))
    bar.close()

    if progress.metrics is None:
        raise DataError(f"no evaluation on {arguments.dev} gave a figure; look at {out / 'log.jsonl'}")
    tokenizer.save_pretrained(out)
    recipe.close()
    found = {arguments.dev.name: progress.metrics}
    write_provenance("models.finetune", arguments, sources, data, found, progress.seconds)
    checkpoint.discard()
    return progress.metrics


def load_models(
    arguments: argparse.Namespace, recipe: Recipe[Any], config: PretrainedConfig
) -> tuple[list[PreTrainedModel], PreTrainedModel]:
    """The frozen teachers, if any, and the model to train."""
    if not arguments.teacher:
        set_dropout(config, arguments.dropout)
        recipe.configure(config)
        # A head of other labels is replaced by a new one.
        return [], recipe.model_class.from_pretrained(arguments.model, config=config, ignore_mismatched_sizes=True)
    teachers: list[PreTrainedModel] = []
    for name in arguments.teacher:
        teachers.append(recipe.model_class.from_pretrained(name).eval())
        teachers[-1].requires_grad_(False)
    if arguments.student:
        config = AutoConfig.from_pretrained(arguments.student)
        recipe.configure(config)
        return teachers, recipe.student_class.from_pretrained(
            arguments.student, config=config, ignore_mismatched_sizes=True
        )
    layers = parse_layers(arguments.layers, teachers[0].config.num_hidden_layers)
    student: PreTrainedModel = make_student(teachers[0], recipe.student_class, layers)
    return teachers, student


def gradients(objective: Objective, batches: Sequence[Batch]) -> dict[str, float]:
    """Add up the gradients of a step's micro-batches. Returns: each loss, as a mean over all of them."""
    sums: dict[str, float] = {}
    for batch, shares in zip(batches, shares_of(batches), strict=True):
        losses = objective(batch)
        objective.total(losses, shares).backward()
        for name, loss in losses.items():
            sums[name] = sums.get(name, 0.0) + shares[name] * loss.item()
    return sums


def iterate_batches(
    items: Sequence[Item], arguments: argparse.Namespace, per_epoch: int, step: int
) -> Iterator[list[list[Item]]]:
    """The micro-batches of each step from `step` on, without end; the order depends on the seed alone."""
    lengths = [len(item.window) for item in items]
    while True:
        epoch, within = divmod(step, per_epoch)
        buckets = length_buckets(lengths, arguments.batch_size, seed=arguments.seed, epoch=epoch)
        for at in range(within, per_epoch):
            chosen = buckets[at * arguments.accumulate : (at + 1) * arguments.accumulate]
            yield [[items[index] for index in bucket] for bucket in chosen]
            step += 1


def append_log(out: Path, row: dict[str, float]) -> None:
    with (out / "log.jsonl").open("a") as log:
        log.write(json.dumps(row) + "\n")
