"""Fine-tune a model on a task, or distil a fine-tuned teacher into a student of fewer layers."""

import argparse
import json
import shlex
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from torch import nn
from tqdm import tqdm
from transformers import (
    AutoConfig,
    AutoModelForQuestionAnswering,
    AutoTokenizer,
    DistilBertForQuestionAnswering,
    PreTrainedModel,
    get_linear_schedule_with_warmup,
)

from models.checkpoint import Checkpoint, CheckpointError
from models.data import (
    DataError,
    QAWindow,
    collate,
    describe,
    encode_examples,
    length_buckets,
    move_questions,
    read_dev,
    read_squad,
)
from models.evaluate import Metrics, evaluate_qa
from models.objective import Objective, Weights, shares_of
from models.predict import torch_run
from models.student import StudentError, make_student, parse_layers
from models.tasks.bundle import max_positions
from models.tasks.qa import QuestionAnswering

PROVENANCE = "training.json"
NOT_THE_RUN = {"argv", "checkpoint_every", "out"}  # arguments that may differ when a run goes on


@dataclass(slots=True)
class Progress:
    """Where a run is: what a checkpoint keeps beside the weights."""

    step: int = 0
    seconds: float = 0.0
    best: float = -1.0
    metrics: Metrics | None = None
    without_gain: int = 0


def finetune(arguments: argparse.Namespace) -> Metrics:
    """Train until the last step or until the dev set stops gaining; the best model ends up in `--out`."""
    torch.manual_seed(arguments.seed)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    out: Path = arguments.out
    if (out / PROVENANCE).exists():
        raise CheckpointError(f"{out} holds a finished run; give another --out")
    out.mkdir(parents=True, exist_ok=True)

    # Data: windows with their labels, in one process's memory.
    source = arguments.teacher or arguments.model
    if not Path(source).is_dir() and len(Path(source).parts) > 2:
        raise DataError(f"{source} is neither a directory nor a name on the Hugging Face Hub")
    tokenizer = AutoTokenizer.from_pretrained(source, use_fast=True)
    examples = [example for path in arguments.train for example in read_squad(path)]
    examples += move_questions(examples, arguments.moved_questions, arguments.seed)
    abstains = any(example.is_impossible for example in examples)
    task = QuestionAnswering(
        tokenizer.backend_tokenizer,
        max_length=min(arguments.max_length, max_positions(AutoConfig.from_pretrained(source).to_dict())),
        no_answer_threshold=0.0 if abstains else None,
    )
    windows = encode_examples(task, examples, arguments.doc_stride)
    dev = read_dev(arguments.dev)

    # Models, losses, optimizer.
    teacher, model = load_models(arguments)
    for each in filter(None, (teacher, model)):
        nn.Module.to(each, device)  # transformers' own `to` is typed without its arguments
    weights = Weights(arguments.hard, arguments.soft, arguments.hidden, arguments.relation) if teacher else Weights()
    objective = Objective(model, teacher, weights, temperature=arguments.temperature, bf16=arguments.bf16)
    if arguments.freeze_embeddings:
        model.get_input_embeddings().weight.requires_grad_(False)
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=arguments.lr, weight_decay=arguments.weight_decay, fused=True)
    per_epoch = -(-len(windows) // (arguments.batch_size * arguments.accumulate))
    steps = max(1, round(arguments.epochs * per_epoch))
    scheduler = get_linear_schedule_with_warmup(optimizer, round(arguments.warmup * steps), steps)

    options = {name: str(value) for name, value in vars(arguments).items() if name not in NOT_THE_RUN}
    checkpoint = Checkpoint(out, options, model, optimizer, scheduler)
    progress = Progress(**(checkpoint.resume() or {}))

    bar = tqdm(total=steps, initial=progress.step, desc=out.name, unit="step", mininterval=5)
    began = time.monotonic() - progress.seconds
    for chosen in iterate_batches(windows, arguments, per_epoch, progress.step):
        if progress.step == steps or progress.without_gain >= arguments.patience:
            break
        batches = [collate(batch, pad_token_id=model.config.pad_token_id or 0, device=device) for batch in chosen]
        model.train()
        sums: dict[str, float] = {}
        for batch, shares in zip(batches, shares_of(batches), strict=True):
            losses = objective(batch)
            objective.total(losses, shares).backward()
            for name, loss in losses.items():
                sums[name] = sums.get(name, 0.0) + shares[name] * loss.item()
        torch.nn.utils.clip_grad_norm_(trained, arguments.clip)
        optimizer.step()
        scheduler.step()
        optimizer.zero_grad()

        progress.step += 1
        progress.seconds = time.monotonic() - began
        bar.update()
        bar.set_postfix({name: f"{value:.3f}" for name, value in sums.items()}, refresh=False)
        if progress.step % 20 == 0:
            append_log(out, {"step": progress.step, "seconds": round(progress.seconds), **sums})
        if progress.step % arguments.evaluate_every == 0 or progress.step == steps:
            metrics = evaluate_qa(torch_run(model, bf16=arguments.bf16), task, dev)
            append_log(out, {"step": progress.step, "seconds": round(progress.seconds), **metrics})
            progress.without_gain += 1
            if metrics["f1"] > progress.best:
                progress.best, progress.metrics, progress.without_gain = metrics["f1"], metrics, 0
                if abstains:
                    model.config.no_answer_threshold = metrics.get("best_threshold", 0.0)
                model.save_pretrained(out)
        if progress.step % arguments.checkpoint_every == 0:
            checkpoint.save(asdict(progress))
    bar.close()

    tokenizer.save_pretrained(out)
    metrics = progress.metrics or {}
    write_provenance(arguments, metrics, progress.seconds)
    checkpoint.discard()
    return metrics


def load_models(arguments: argparse.Namespace) -> tuple[PreTrainedModel | None, PreTrainedModel]:
    """The frozen teacher, if any, and the model to train."""
    if not arguments.teacher:
        config = AutoConfig.from_pretrained(arguments.model)
        for name in ("hidden_dropout_prob", "attention_probs_dropout_prob", "dropout", "attention_dropout"):
            if hasattr(config, name):  # the first two are BERT's and RoBERTa's, the others DistilBERT's
                setattr(config, name, arguments.dropout)
        return None, AutoModelForQuestionAnswering.from_pretrained(arguments.model, config=config)
    teacher = AutoModelForQuestionAnswering.from_pretrained(arguments.teacher).eval()
    teacher.requires_grad_(False)
    if arguments.student:
        return teacher, DistilBertForQuestionAnswering.from_pretrained(arguments.student)
    layers = parse_layers(arguments.layers, teacher.config.num_hidden_layers)
    return teacher, make_student(teacher, DistilBertForQuestionAnswering, layers)


def iterate_batches(
    windows: Sequence[QAWindow], arguments: argparse.Namespace, per_epoch: int, step: int
) -> Iterator[list[list[QAWindow]]]:
    """The micro-batches of each step from `step` on, without end; the order depends on the seed alone."""
    lengths = [len(item.window) for item in windows]
    while True:
        epoch, within = divmod(step, per_epoch)
        buckets = length_buckets(lengths, arguments.batch_size, seed=arguments.seed, epoch=epoch)
        for at in range(within, per_epoch):
            chosen = buckets[at * arguments.accumulate : (at + 1) * arguments.accumulate]
            yield [[windows[index] for index in bucket] for bucket in chosen]
            step += 1


def append_log(out: Path, row: dict[str, float]) -> None:
    with (out / "log.jsonl").open("a") as log:
        log.write(json.dumps(row) + "\n")


def write_provenance(arguments: argparse.Namespace, metrics: Metrics, seconds: float) -> None:
    source = arguments.teacher or arguments.model
    provenance = {
        "command": shlex.join(["python", "-m", "models.finetune", *arguments.argv]),
        "seed": arguments.seed,
        "source": Path(source).name if Path(source).exists() else source,
        "data": [describe(path) for path in dict.fromkeys(arguments.train)],
        "seconds": round(seconds),
        "metrics": {arguments.dev.name: metrics},
    }
    (arguments.out / PROVENANCE).write_text(json.dumps(provenance, indent=2) + "\n")


def parse_arguments(argv: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m models.finetune",
        description=__doc__,
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument("--task", choices=["qa"], required=True)
    start = parser.add_mutually_exclusive_group(required=True)
    start.add_argument("--model", metavar="DIR_OR_NAME", help="fine-tune this encoder, without a teacher")
    start.add_argument("--teacher", metavar="DIR_OR_NAME", help="distil this fine-tuned model into a student")
    parser.add_argument("--layers", default="3", help="the student's layers: a count, or a list of the teacher's")
    parser.add_argument("--student", metavar="DIR", help="go on with this student instead of cutting a new one")
    parser.add_argument(
        "--train", type=Path, nargs="+", required=True, metavar="FILE", help="SQuAD JSON; name one twice to double it"
    )
    parser.add_argument("--dev", type=Path, required=True, metavar="FILE", help="SQuAD JSON; chooses the best model")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="checkpoints, log and the best model")
    data = parser.add_argument_group("data")
    data.add_argument("--max-length", type=int, default=384, help="tokens of a window")
    data.add_argument("--doc-stride", type=int, default=128, help="overlap of windows, tokens")
    data.add_argument("--moved-questions", type=float, default=0.1, help="share asked again of another paragraph")
    loop = parser.add_argument_group("loop")
    loop.add_argument("--epochs", type=float, default=1.0, help="passes over the data; parts of one are fine")
    loop.add_argument("--batch-size", type=int, default=16, help="windows of a micro-batch")
    loop.add_argument("--accumulate", type=int, default=1, help="micro-batches of a step")
    loop.add_argument("--lr", type=float, default=1e-4, help="peak learning rate")
    loop.add_argument("--warmup", type=float, default=0.05, help="share of the steps; then a linear decay")
    loop.add_argument("--weight-decay", type=float, default=0.01, help="of AdamW")
    loop.add_argument("--clip", type=float, default=1.0, help="largest gradient norm")
    loop.add_argument("--dropout", type=float, default=0.0, help="without a teacher; costs half the speed on a CPU")
    switch = argparse.BooleanOptionalAction
    loop.add_argument("--freeze-embeddings", action=switch, default=True, help="leave word embeddings as they are")
    loop.add_argument("--bf16", action=switch, default=True, help="autocast to bfloat16")
    loop.add_argument("--seed", type=int, default=0, help="of the order, the moved questions and the head")
    loop.add_argument("--evaluate-every", type=int, default=1000, help="steps")
    loop.add_argument("--patience", type=int, default=2, help="evaluations without a gain before the run stops")
    loop.add_argument("--checkpoint-every", type=int, default=200, help="steps")
    distil = parser.add_argument_group("distillation: what each loss counts, 0 switches it off")
    distil.add_argument("--hard", type=float, default=0.3, help="hard labels")
    distil.add_argument("--soft", type=float, default=0.7, help="the teacher's soft targets")
    distil.add_argument("--hidden", type=float, default=1.0, help="hidden states, layer by layer")
    distil.add_argument("--relation", type=float, default=1.0, help="relations of the last layer's values")
    distil.add_argument("--temperature", type=float, default=2.0, help="of the soft targets")
    arguments = parser.parse_args(argv)
    for name in ("epochs", "batch_size", "accumulate", "lr", "evaluate_every", "checkpoint_every", "temperature"):
        if getattr(arguments, name) <= 0:
            parser.error(f"--{name.replace('_', '-')} must be above 0")
    arguments.argv = list(argv)
    return arguments


def main(argv: Sequence[str] | None = None) -> int:
    arguments = parse_arguments(sys.argv[1:] if argv is None else argv)
    try:
        metrics = finetune(arguments)
    except (DataError, CheckpointError, StudentError, OSError) as error:
        reason = str(error).partition("\n")[0]  # libraries follow their first line with advice
        sys.stderr.write(f"python -m models.finetune: {reason}\n")
        return 2
    sys.stdout.write(json.dumps(metrics, indent=2) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
