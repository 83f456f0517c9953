"""Trains a student on one process or many: a window of micro-batches for each optimizer step."""

import math
import time
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from accelerate import Accelerator
from torch import Tensor
from tqdm import tqdm
from transformers import get_linear_schedule_with_warmup

from models.checkpoint import Checkpoint
from models.pretrain.loss_log import LossLog
from models.pretrain.masked_lm import MaskedLM
from models.pretrain.masking import MaskedBatch, MaskedBatches
from models.pretrain.objective import ACCURACY, Forward, Share, TripleLoss, shares_of
from models.pretrain.options import PretrainLoop
from models.training import Progress, Stop, check_finite, signals_noted


@dataclass(slots=True)
class TokenProgress(Progress):
    """Says where a run is, and how many tokens all its processes have read."""

    tokens: int = 0


def train(
    accelerator: Accelerator,
    student: MaskedLM,
    loss: TripleLoss,
    batches: MaskedBatches,
    dev: MaskedBatches,
    loop: PretrainLoop,
    *,
    steps: int,
    out: Path,
    identity: dict[str, str],
) -> tuple[TokenProgress, dict[str, float]]:
    """Train until the last step; returns the last evaluation on `dev` too. Rows go to `losses.csv` in `out`.
    Whoever calls it discards the checkpoints, once what was trained is written.

    `identity`: what a run that continues must share with this one.

    Raises: CheckpointError; DivergedError if a loss is no longer a number; StoppedError after SIGTERM or Ctrl-C.
    """
    student.to(accelerator.device)  # before the optimizer and what a checkpoint gives it
    parameters = [parameter for parameter in student.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(parameters, lr=loop.lr, betas=(0.9, 0.98), weight_decay=loop.weight_decay, fused=True)
    # The scheduler stays unwrapped: accelerate's own would take a step for each process.
    scheduler = get_linear_schedule_with_warmup(optimizer, math.ceil(loop.warmup * steps), steps)
    checkpoint = Checkpoint(out, identity, student, optimizer, scheduler, keep=loop.keep)
    progress = TokenProgress(**(checkpoint.resume() or {}))
    wrapped_student, stepper = accelerator.prepare(student, optimizer)
    log = LossLog(out, since=progress.step) if accelerator.is_main_process else None

    ranks, rank = accelerator.num_processes, accelerator.process_index
    window = loop.accumulate * ranks
    began, began_tokens = time.monotonic() - progress.seconds, progress.tokens
    began_seconds, figures = progress.seconds, dict[str, float]()
    bar = tqdm(total=steps, initial=progress.step, unit="step", disable=not accelerator.is_main_process)
    with signals_noted() as stop, bar:
        while progress.step < steps:
            numbers = range(progress.step * window + rank, (progress.step + 1) * window, ranks)
            sums, tokens, stopped = gradients(
                accelerator, wrapped_student, loss, [batches[n] for n in numbers], stop=stop
            )
            norm = accelerator.clip_grad_norm_(parameters, loop.clip)
            lr = scheduler.get_last_lr()[0]
            stepper.step()
            scheduler.step()
            stepper.zero_grad()

            progress.step += 1
            progress.tokens += tokens
            progress.seconds = time.monotonic() - began
            last = progress.step == steps
            bar.update()
            if progress.step % loop.log_every == 0 or last:
                row = read_out(accelerator, loss, sums)
                speed = (progress.tokens - began_tokens) / (progress.seconds - began_seconds)
                bar.set_postfix({"tokens/s": f"{speed:.0f}"} | {name: f"{value:.3f}" for name, value in row.items()})
                if log:
                    log.write("train", asdict(progress), row | {"lr": lr, "gradient_norm": float(norm)})
            if progress.step % loop.evaluate_every == 0 or last:
                figures = evaluate(accelerator, wrapped_student, loss, dev, loop.dev_batches)
                if log:
                    log.write("dev", asdict(progress), figures)
            stopped = stopped and not last  # after the last step the run is over sooner than it can be resumed
            if progress.step % loop.checkpoint_every == 0 or stopped:
                if accelerator.is_main_process:
                    checkpoint.save(asdict(progress))
                accelerator.wait_for_everyone()
            if stopped:
                raise stop.error(progress.step)
    if not figures:  # the run was killed between its last step and its end
        figures = evaluate(accelerator, wrapped_student, loss, dev, loop.dev_batches)
    if log:
        log.plot()
    return progress, figures


def gradients(
    accelerator: Accelerator, student: Forward, loss: TripleLoss, batches: Sequence[MaskedBatch], *, stop: Stop
) -> tuple[dict[str, Tensor], int, bool]:
    """Add up the gradients of a window: the losses summed over all its micro-batches and all processes, divided by the
    tokens of them all. A mean of means would weigh the tokens of short batches more.

    Returns: this process's part of each loss, the window's tokens, whether any process is to stop.
    """
    token_count = sum(int(batch.attention_mask.sum()) for batch in batches)
    masked_count = sum(int(batch.masked_positions.sum()) for batch in batches)
    counts = torch.tensor(
        [token_count, masked_count, int(stop.is_requested)], dtype=torch.float64, device=accelerator.device
    )
    tokens, masked_tokens, stopped = accelerator.reduce(counts, reduction="sum").tolist()
    sums: dict[str, Tensor] = {}
    for number, (batch, share) in enumerate(
        zip(batches, shares_of(batches, tokens, masked_tokens), strict=True), start=1
    ):
        # Only the last micro-batch's backward pass exchanges gradients.
        with nullcontext() if number == len(batches) else accelerator.no_sync(student):
            losses = loss(student, batch)
            # The wrapper averages over the processes; the shares have divided already.
            accelerator.backward(loss.total(losses, share) * accelerator.num_processes)
        add(sums, losses, share)
    return sums, int(tokens), stopped > 0


@torch.no_grad()
def evaluate(
    accelerator: Accelerator, student: Forward, loss: TripleLoss, dev: MaskedBatches, limit: int = 0
) -> dict[str, float]:
    """Measure each loss, their weighted sum and the share of masked tokens guessed, over `limit` batches of the dev
    text or (0) all. The batches and their masks are always the same, so evaluations compare.
    """
    ranks, rank = accelerator.num_processes, accelerator.process_index
    counts = torch.zeros(2, dtype=torch.float64, device=accelerator.device)
    sums: dict[str, Tensor] = {}
    for number in range(rank, min(dev.batches.per_epoch, limit or dev.batches.per_epoch), ranks):
        batch = dev[number]
        counts += torch.stack([batch.attention_mask.sum(), batch.masked_positions.sum()])
        (weight,) = shares_of([batch], tokens=1, masked_tokens=1)  # divided below, when all are known
        add(sums, loss(student, batch), weight)
    tokens, masked_tokens = accelerator.reduce(counts, reduction="sum").tolist()
    total_share = Share(tokens, masked_tokens)
    return read_out(accelerator, loss, {name: value / total_share.of(name) for name, value in sums.items()})


def add(sums: dict[str, Tensor], losses: dict[str, Tensor], share: Share) -> None:
    for name, value in losses.items():
        scaled = share.of(name) * value.detach().double()
        sums[name] = sums[name] + scaled if name in sums else scaled


def read_out(accelerator: Accelerator, loss: TripleLoss, sums: dict[str, Tensor]) -> dict[str, float]:
    """Return the parts of all processes added up, and `total`, the weighted sum that training minimises.

    Raises: DivergedError.
    """
    values = accelerator.reduce(torch.stack(list(sums.values())), reduction="sum").tolist()
    row = dict(zip(sums, values, strict=True))
    row["total"] = sum(getattr(loss.weights, name) * value for name, value in row.items() if name != ACCURACY)
    check_finite(row, row["total"])
    return row
