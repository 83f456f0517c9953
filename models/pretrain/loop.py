"""The pretraining loop, on one process or many: windows of micro-batches in, one optimizer step each."""

import math
import signal
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path
from types import FrameType

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


class StoppedError(Exception):
    """SIGTERM came: the run has written a checkpoint and goes on from there when it is started again."""


@dataclass(frozen=True, slots=True)
class Plan:
    """How long to train and how: `accumulate` micro-batches of each process make a step."""

    steps: int
    accumulate: int = 1
    lr: float = 5e-4
    warmup: float = 0.05  # share of the steps; then a linear decay
    weight_decay: float = 0.01
    clip: float = 5.0
    log_every: int = 10  # steps, as the two below
    evaluate_every: int = 500
    checkpoint_every: int = 200
    dev_batches: int = 0  # of each evaluation; 0: all
    keep: int = 2  # checkpoints


@dataclass(slots=True)
class Progress:
    """Where a run is: what a checkpoint keeps beside the weights."""

    step: int = 0
    tokens: int = 0  # of all processes
    seconds: float = 0.0


def train(
    accelerator: Accelerator,
    student: MaskedLM,
    loss: TripleLoss,
    batches: MaskedBatches,
    dev: MaskedBatches,
    plan: Plan,
    *,
    out: Path,
    options: dict[str, str],
) -> tuple[Progress, dict[str, float]]:
    """Train until the last step; returns the last evaluation on `dev` too. Rows go to `losses.csv` in `out`.

    Raises: StoppedError, CheckpointError, FloatingPointError if a loss is no longer a number.
    """
    student.to(accelerator.device)  # before the optimizer and what a checkpoint gives it
    trained = [parameter for parameter in student.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=plan.lr, betas=(0.9, 0.98), weight_decay=plan.weight_decay, fused=True)
    # The scheduler stays unwrapped: accelerate's own would take a step for each process.
    scheduler = get_linear_schedule_with_warmup(optimizer, math.ceil(plan.warmup * plan.steps), plan.steps)
    checkpoint = Checkpoint(out, options, student, optimizer, scheduler, keep=plan.keep)
    progress = Progress(**(checkpoint.resume() or {}))
    wrapped, stepper = accelerator.prepare(student, optimizer)
    log = LossLog(out, since=progress.step) if accelerator.is_main_process else None

    ranks, rank = accelerator.num_processes, accelerator.process_index
    window = plan.accumulate * ranks
    began, began_tokens = time.monotonic() - progress.seconds, progress.tokens
    bar = tqdm(total=plan.steps, initial=progress.step, unit="step", disable=not accelerator.is_main_process)
    rest_seconds, figures = progress.seconds, dict[str, float]()
    with sigterm_noted() as stop:
        while progress.step < plan.steps:
            numbers = range(progress.step * window + rank, (progress.step + 1) * window, ranks)
            sums, tokens, stopped = gradients(accelerator, wrapped, loss, [batches[n] for n in numbers], stop=stop)
            norm = accelerator.clip_grad_norm_(trained, plan.clip)
            lr = scheduler.get_last_lr()[0]
            stepper.step()
            scheduler.step()
            stepper.zero_grad()

            progress.step += 1
            progress.tokens += tokens
            progress.seconds = time.monotonic() - began
            last = progress.step == plan.steps
            bar.update()
            if progress.step % plan.log_every == 0 or last:
                row = read_out(accelerator, loss, sums)
                speed = (progress.tokens - began_tokens) / (progress.seconds - rest_seconds)
                bar.set_postfix({"tokens/s": f"{speed:.0f}"} | {name: f"{value:.3f}" for name, value in row.items()})
                if log:
                    log.write("train", asdict(progress), row | {"lr": lr, "gradient_norm": float(norm)})
            if progress.step % plan.evaluate_every == 0 or last:
                figures = evaluate(accelerator, wrapped, loss, dev, plan.dev_batches)
                if log:
                    log.write("dev", asdict(progress), figures)
            if progress.step % plan.checkpoint_every == 0 or stopped:
                if accelerator.is_main_process:
                    checkpoint.save(asdict(progress))
                accelerator.wait_for_everyone()
            if stopped:
                raise StoppedError(f"stopped by SIGTERM at step {progress.step}; give the same command to go on")
    bar.close()
    if log:
        log.plot()
        checkpoint.discard()
    return progress, figures


def gradients(
    accelerator: Accelerator, student: Forward, loss: TripleLoss, batches: Sequence[MaskedBatch], *, stop: "Stop"
) -> tuple[dict[str, Tensor], int, bool]:
    """Add up the gradients of a window: the losses summed over all its micro-batches and all processes, divided by the
    tokens of them all. A mean of means would weigh the tokens of short batches more.

    Returns: this process's part of each loss, the window's tokens, whether any process is to stop.
    """
    own = [sum(int(batch.attention_mask.sum()) for batch in batches), sum(int(batch.chosen.sum()) for batch in batches)]
    counts = torch.tensor([*own, int(stop.asked)], dtype=torch.float64, device=accelerator.device)
    tokens, masked, stopped = accelerator.reduce(counts, reduction="sum").tolist()
    sums: dict[str, Tensor] = {}
    for number, (batch, share) in enumerate(zip(batches, shares_of(batches, tokens, masked), strict=True), start=1):
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
    """Each loss, their weighted sum and the share of masked tokens guessed, over so many batches of the dev text or
    (0) all. The batches and their masks are always the same, so evaluations compare.
    """
    ranks, rank = accelerator.num_processes, accelerator.process_index
    counts = torch.zeros(2, dtype=torch.float64, device=accelerator.device)
    sums: dict[str, Tensor] = {}
    for number in range(rank, min(dev.batches.per_epoch, limit or dev.batches.per_epoch), ranks):
        batch = dev[number]
        counts += torch.stack([batch.attention_mask.sum(), batch.chosen.sum()])
        (weight,) = shares_of([batch], tokens=1, masked=1)  # divided below, when all are known
        add(sums, loss(student, batch), weight)
    tokens, masked = accelerator.reduce(counts, reduction="sum").tolist()
    whole = Share(tokens, masked)
    return read_out(accelerator, loss, {name: value / whole.of(name) for name, value in sums.items()})


def add(sums: dict[str, Tensor], losses: dict[str, Tensor], share: Share) -> None:
    for name, value in losses.items():
        scaled = share.of(name) * value.detach().double()
        sums[name] = sums[name] + scaled if name in sums else scaled


def read_out(accelerator: Accelerator, loss: TripleLoss, sums: dict[str, Tensor]) -> dict[str, float]:
    """The parts of all processes added up, and `total`, the weighted sum that training minimises.

    Raises: FloatingPointError.
    """
    values = accelerator.reduce(torch.stack(list(sums.values())), reduction="sum").tolist()
    row = dict(zip(sums, values, strict=True))
    row["total"] = sum(getattr(loss.weights, name) * value for name, value in row.items() if name != ACCURACY)
    if not math.isfinite(row["total"]):
        raise FloatingPointError(f"a loss is no longer a number: {row}; lower --lr")
    return row


@dataclass(slots=True)
class Stop:
    """Whether SIGTERM has come."""

    asked: bool = False


@contextmanager
def sigterm_noted() -> Iterator[Stop]:
    """SIGTERM sets a note instead of ending the process, for as long as the block lasts."""
    stop = Stop()

    def note(_number: int, _frame: FrameType | None) -> None:
        stop.asked = True

    before = signal.signal(signal.SIGTERM, note)
    try:
        yield stop
    finally:
        signal.signal(signal.SIGTERM, before)
