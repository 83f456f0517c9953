"""Run by each of two processes in test_loop: it takes every other batch of a window; the first keeps the sum."""

from collections.abc import Sequence
from pathlib import Path

import torch
from accelerate import Accelerator

from models.pretrain.loop import gradients
from models.pretrain.objective import TripleLoss, TripleWeights
from models.training import Stop
from tests.models.pretrain.masked_batches import LENGTHS, pair, random_batch


def main(argv: Sequence[str]) -> int:
    accelerator = Accelerator(cpu=True)
    student, teacher = pair()
    loss = TripleLoss(student, teacher, TripleWeights(soft=5.0, mlm=2.0, cosine=1.0, relation=1.0))
    wrapped = accelerator.prepare(student)
    own = range(accelerator.process_index, len(LENGTHS), accelerator.num_processes)
    batches = [random_batch(number, LENGTHS[number]) for number in own]
    _, tokens, stopped = gradients(
        accelerator, wrapped, loss, batches, stop=Stop(is_requested=accelerator.process_index == 1)
    )
    if accelerator.is_main_process:
        kept = {name: parameter.grad for name, parameter in student.named_parameters()}
        torch.save({"gradients": kept, "tokens": tokens, "stopped": stopped}, Path(argv[0]))
    accelerator.wait_for_everyone()
    accelerator.end_training()
    return 0
