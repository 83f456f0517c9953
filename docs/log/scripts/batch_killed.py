"""Answers a large file by `halfdepth batch`, killed twice on its way, and compares a sample with the service's answers.

From the root of the repository: python -m docs.log.scripts.batch_killed runs/million
"""

import argparse
import json
import re
import subprocess
from pathlib import Path
from random import Random
from time import perf_counter, sleep

from loadtest.bench.measurements import checked, say
from loadtest.connection import Connection, post
from loadtest.process import python_environment, python_module, resident_mb, service

ROUTE, BUNDLE = "/classify", Path("bundles/classify")
NOUNS = ("film", "plot", "cast", "score", "script", "ending", "camera", "pace", "first hour", "last scene")
VERBS = ("is", "was", "seems", "stays", "is never", "is always")
QUALITIES = ("warm", "wise", "dull", "funny", "slow", "brilliant", "lifeless", "tender", "clumsy", "gripping")
POLL_S = 0.05


def write_requests(path: Path, count: int) -> None:
    """Write so many short texts, the same at every call, each with its number as its id."""
    random = Random(0)
    with path.open("w") as file:
        for number in range(count):
            clauses = [f"the {random.choice(NOUNS)} {random.choice(VERBS)} {random.choice(QUALITIES)}" for _ in "ab"]
            file.write(json.dumps({"id": number, "text": " and ".join(clauses)}) + "\n")


def run_batch(source: Path, out: Path, kill_at: int | None) -> None:
    """Run the command, to its end or until the output has grown to so many bytes, when SIGKILL ends it."""
    arguments = ["batch", str(source), str(out), "--route", ROUTE, "--bundles", str(BUNDLE)]
    began = perf_counter()
    process = subprocess.Popen(
        [*python_module("halfdepth"), *arguments],
        env=python_environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    memory = 0.0
    while process.poll() is None:
        memory = max(memory, resident_mb(process.pid))
        if kill_at is not None and out.exists() and out.stat().st_size >= kill_at:
            process.kill()
            process.wait()
        sleep(POLL_S)
    summary = process.communicate()[0].decode().strip()
    with out.open("rb") as file:
        lines = sum(1 for _ in file)
    seconds = perf_counter() - began
    say(f"status {process.returncode} after {seconds:.0f} s: {lines} lines, {memory:.0f} MB at most {summary}")


def differing_from_service(source: Path, out: Path, sample: set[int]) -> int:
    """Ask the service the lines of the sample. Returns: how many of its answers have other bytes, timings apart."""
    differing = 0
    with (
        service(BUNDLES=str(BUNDLE)) as running,
        Connection(running.url) as connection,
        source.open("rb") as requests,
        out.open("rb") as answers,
    ):
        for number, (request, answer) in enumerate(zip(requests, answers, strict=True)):
            if number in sample:
                body = checked(connection.ask(post(ROUTE, {"text": json.loads(request)["text"]}))).body
                expected = re.sub(rb',"timings_ms":\{[^}]*\}', b"", body)
                differing += answer != b'{"id":%d,%s\n' % (number, expected[1:])
    return differing


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m docs.log.scripts.batch_killed")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--lines", type=int, default=1_000_000)
    parser.add_argument("--kills", type=int, default=2)
    parser.add_argument("--sample", type=int, default=1_000, help="lines to ask the service as well")
    options = parser.parse_args()
    options.folder.mkdir(parents=True)
    source, out = options.folder / "in.jsonl", options.folder / "out.jsonl"
    write_requests(source, options.lines)
    line_bytes = 240  # of an answer, about
    for kill in range(options.kills):
        run_batch(source, out, options.lines * line_bytes * (kill + 1) // (options.kills + 1))
    run_batch(source, out, None)
    with out.open("rb") as file:
        ids = [json.loads(line)["id"] for line in file]
    say(f"{len(ids)} lines, in the order of the input: {ids == list(range(options.lines))}")
    sample = set(Random(1).sample(range(options.lines), options.sample))
    say(f"{differing_from_service(source, out, sample)} of {len(sample)} differ from the service's answers")


if __name__ == "__main__":
    main()
