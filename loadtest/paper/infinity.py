"""Runs `halfdepth loadtest infinity`: DistilBERT-base beside Hugging Face Infinity's table.

Infinity's figures: "Case Study: Millisecond Latency using Hugging Face Infinity and modern CPUs", Hugging Face, 2022.
DistilBERT for classification, end to end, batch 1, on two physical cores of Ice Lake; the product was withdrawn. The
case study speaks of requests a second at batch 1 and gives no number of connections; one is assumed here, so that a
request is sent when the one before has been answered.
"""

import json
import statistics
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated

from loadtest.bench.against_plain import Round, Server, measure
from loadtest.bench.measurements import say
from loadtest.connection import post
from loadtest.payloads import SENTENCES, passage_of
from loadtest.process import LoadTestError, python_environment, python_module, service, sigterm_raised
from loadtest.record import Row, record
from models.tasks.build import SPECS, build_task
from models.tasks.bundle import Bundle, load_bundle
from models.tasks.errors import UsageError, needs_extra, run_command
from models.tasks.options import Flag, Options, read_options

with needs_extra("halfdepth loadtest infinity", "loadtest"):
    from tqdm import tqdm

PUBLISHED: Mapping[int, int] = {8: 248, 16: 212, 32: 150, 64: 97, 128: 55, 256: 27, 384: 17, 512: 12}
"""Requests a second, by tokens."""
MODEL = "DistilBERT-base (6 layers of 768), random weights, int8"
LAST = 300  # characters of what a command says when it fails


@dataclass(frozen=True, slots=True, kw_only=True)
class InfinityOptions(Options):
    """Measure DistilBERT-base, exported and served by us, beside the table that Hugging Face published of Infinity.

    End to end over HTTP, one request at a time, on all cores; 6 layers of 768 with a head for two labels and random
    weights, made and exported at the first run (needs the environment of `make train`). Runs on Linux only.
    """

    tokens: Annotated[tuple[int, ...], Flag("lengths, tokens: any of Infinity's", above=0)] = tuple(PUBLISHED)
    rounds: Annotated[int, Flag("rounds over all lengths", above=0)] = 5
    seconds: Annotated[float, Flag("duration of a length in a round, seconds", above=0)] = 1.5
    like: Annotated[Path, Flag("bundle for classification whose tokenizer it gets", metavar="BUNDLE")] = Path(
        "bundles/classify"
    )
    work: Annotated[Path, Flag("directory of the exported bundle, made once", metavar="DIR")] = Path("runs/infinity")
    out: Annotated[Path, Flag("file to write the rows into, as JSON", metavar="FILE")] = Path("runs/infinity.json")

    def check(self) -> None:
        unknown = [str(tokens) for tokens in self.tokens if tokens not in PUBLISHED]
        if unknown:
            known = ", ".join(map(str, PUBLISHED))
            raise UsageError(f"--tokens: Infinity's table has no {', '.join(unknown)}; it has {known}")


def main(argv: Sequence[str] | None = None, *, prog: str = "python -m loadtest.paper.infinity") -> int:
    return run_command(prog, run, prog, argv)


def run(prog: str, argv: Sequence[str] | None) -> None:
    """Measure, print the rows and write their record.

    Raises: BundleError, LoadTestError, UsageError; StoppedError after SIGTERM, once the service has ended.
    """
    options = read_options(InfinityOptions, prog, argv)
    with sigterm_raised():
        rows = measure_all(make_bundle(options), options)
    say("tokens  requests/s  Infinity  times   p50 ms")
    for row in rows:
        published = row["infinity_requests_per_s"]
        times = row["requests_per_s"] / published
        say(f"{row['tokens']:6}  {row['requests_per_s']:10.1f}  {published:8}  {times:5.2f}  {row['p50_ms']:7.2f}")
    say(f"{MODEL}; Infinity: two physical cores of Ice Lake")
    record("infinity", rows).write(options.out)


def make_bundle(options: InfinityOptions) -> Bundle:
    """Return the exported bundle; make it if it is not there. Raises: LoadTestError if that fails."""
    path = options.work / "classify"
    if not path.is_dir():
        options.work.mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory(dir=options.work) as scratch:
            checkpoint, dev = Path(scratch, "checkpoint"), Path(scratch, "dev.tsv")
            _call("export.bench.random_checkpoint", "--like", options.like, "--out", checkpoint)
            dev.write_text(dev_set(options.like), encoding="utf-8")
            # Random weights have no metric to lose, and labels near a tie may change.
            checks = ("--max-metric-drop", 100, "--min-agreement", 0)
            _call("export", "--task", "classify", "--student", checkpoint, "--dev", dev, "--out", path, *checks)
    return load_bundle(path)


def dev_set(like: Path) -> str:
    """Write sentences with the labels of the bundle in turns: the checks of an export run on them."""
    labels = list(json.loads((like / "config.json").read_text())["id2label"].values())
    rows = [f"{text}\t{labels[number % len(labels)]}" for number, text in enumerate(SENTENCES * 3)]
    return "\n".join(["text\tlabel", *rows]) + "\n"


def _call(module: str, *arguments: object) -> None:
    command = [*python_module(module), *map(str, arguments)]
    done = subprocess.run(command, env=python_environment(), capture_output=True, check=False)
    if done.returncode:
        raise LoadTestError(f"the bundle cannot be made: {done.stderr.decode(errors='replace').strip()[-LAST:]}")


def measure_all(bundle: Bundle, options: InfinityOptions) -> list[Row]:
    """Send one request at a time, each length in each round."""
    tokenizer = build_task(bundle, SPECS[bundle.task].graph_outputs).tokenizer
    rounds: dict[int, list[Round]] = {tokens: [] for tokens in options.tokens}
    with service(BUNDLES=str(bundle.path), MODELS="") as process:
        for number in tqdm(range(options.rounds), desc="infinity", unit="round"):
            for tokens in options.tokens if number % 2 else reversed(options.tokens):
                request = post("/classify", {"text": passage_of(tokens, tokenizer)})
                server = Server("the service", (process.url,), (process.process.pid,), request)
                rounds[tokens].append(measure(server, 1, options.seconds))
    return [row_of(tokens, measured) for tokens, measured in rounds.items()]


def row_of(tokens: int, rounds: Sequence[Round]) -> Row:
    return {
        "tokens": tokens,
        "requests_per_s": round(statistics.median(entry.rate for entry in rounds), 1),
        "infinity_requests_per_s": PUBLISHED[tokens],
        "p50_ms": round(statistics.median(entry.p50 for entry in rounds), 3),
        "requests_per_s_rounds": [round(entry.rate, 1) for entry in rounds],
        "model": MODEL,
    }


if __name__ == "__main__":
    sys.exit(main())
