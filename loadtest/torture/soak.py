"""Runs `halfdepth loadtest soak`: a steady load on every route, and counts that must agree."""

import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from time import monotonic, sleep
from typing import Annotated

import numpy as np
from tqdm import tqdm

from loadtest.process import LoadTestError, Service, service, sigterm_raised
from loadtest.record import Row, record
from loadtest.torture.load import Load, Tally
from loadtest.torture.questions import Question, questions
from loadtest.torture.state import Holdings, by_status, metrics, requests_counted, requests_logged
from models.tasks.errors import run_command
from models.tasks.options import Flag, Options, read_options
from models.tasks.remote.client import Client

PER_ROUTE = 40  # requests of each route that differ
SAMPLE_S = 1.0
UNLOGGED = {"/metrics", "/health/live"}
CLOSED_CONNECTIONS, OPEN_CONNECTIONS = 8, 256


@dataclass(frozen=True, slots=True, kw_only=True)
class SoakOptions(Options):
    """Load a service steadily over all of its routes, and compare the counts of client, log and metrics.

    The first sixth of the time is for warming up. It exits 1 unless every request got the answer that it gets alone or
    was refused, memory stays within 5% of what it was after the warm-up, p99 does not drift, and all counts agree.
    """

    bundles: Annotated[Path, Flag("directory of the bundles to serve", metavar="DIR")] = Path("bundles")
    minutes: Annotated[float, Flag("how long, minutes", above=0)] = 30.0
    share: Annotated[float, Flag("of the requests a second that the service answers at most", above=0)] = 0.8
    capacity_seconds: Annotated[float, Flag("how long that most is measured, seconds", above=0)] = 20.0
    max_drift: Annotated[float, Flag("times p99 of the first third that p99 of the last may take", above=0)] = 1.25
    max_growth: Annotated[float, Flag("times the memory after the warm-up that may be taken later", above=0)] = 1.05
    seed: Annotated[int, Flag("of the texts and their order")] = 0
    out: Annotated[Path, Flag("file of the record", metavar="FILE")] = Path("runs/soak.json")


def main(argv: Sequence[str] | None = None, *, prog: str = "python -m loadtest.torture.soak") -> int:
    return run_command(prog, run, prog, argv)


def run(prog: str, argv: Sequence[str] | None) -> None:
    """Print and write down what was counted. Raises: ClientError; LoadTestError if anything did not hold."""
    options = read_options(SoakOptions, prog, argv)
    with sigterm_raised(), TemporaryDirectory() as scratch:
        log = Path(scratch, "log")
        with service(log, BUNDLES=str(options.bundles), MODELS="", LOG_FORMAT="json", DRAIN_SECONDS="0") as server:
            asked = questions(Client(server.url), PER_ROUTE, options.seed)
            per_second = options.share * capacity(server.url, asked, options)
            row, failures = soak(server, log, asked, per_second, options)
    record("soak", [row]).write(options.out)
    for name, value in row.items():
        sys.stdout.write(f"{name}: {value}\n")
    if failures:
        raise LoadTestError("; ".join(failures))


def capacity(url: str, asked: Sequence[Question], options: SoakOptions) -> float:
    """Measure how many requests a second are answered at most."""
    with Load(url, asked, connections=CLOSED_CONNECTIONS, seed=options.seed) as load:
        sleep(options.capacity_seconds)
    return load.tally.right / options.capacity_seconds


def soak(
    server: Service, log: Path, asked: Sequence[Question], per_second: float, options: SoakOptions
) -> tuple[Row, list[str]]:
    """Returns: the figures, and what did not hold."""
    pid, seconds = server.process.pid, 60 * options.minutes
    counted_before = requests_counted(metrics(server.url))  # the scrape has the log written, too
    log_began = log.stat().st_size
    samples: list[tuple[float, Holdings]] = []
    load = Load(server.url, asked, connections=OPEN_CONNECTIONS, seed=options.seed, per_second=per_second)
    with load, tqdm(total=round(seconds), unit="s") as bar:
        began = monotonic()
        while (elapsed := monotonic() - began) < seconds and server.process.poll() is None:
            samples.append((elapsed, Holdings.of(pid)))
            sleep(min(SAMPLE_S, seconds - elapsed))
            bar.update(round(monotonic() - began) - bar.n)
    if server.process.poll() is not None:
        raise LoadTestError(f"the service ended with {server.process.returncode}")
    counted = requests_counted(metrics(server.url)) - counted_before
    with log.open(encoding="utf-8") as lines:
        lines.seek(log_began)
        by_route, by_task = requests_logged(lines)
    tally = load.tally
    sent_logged = Counter({key: number for key, number in tally.statuses.items() if key[0] not in UNLOGGED})
    warm = [holdings.resident_mb for elapsed, holdings in samples if elapsed >= seconds / 6] or [float("nan")]
    thirds = p99_by_third(tally)
    row: Row = {
        "minutes": options.minutes,
        "per_second": round(per_second, 1),
        "sent": tally.sent,
        "right": tally.right,
        "refused": dict(tally.refused),
        "wrong": tally.wrong,
        "closed": tally.closed,
        "hung": tally.hung,
        "statuses_at_client": _named(by_status(tally.statuses)),
        "statuses_of_tasks_at_client": _named(tally.of_tasks),
        "statuses_in_log": _named(by_status(by_task)),
        "statuses_in_metrics": _named(by_status(counted)),
        "resident_mb_after_warm_up": round(warm[0], 1),
        "resident_mb_at_most": round(max(warm), 1),
        "resident_mb_at_the_end": round(warm[-1], 1),
        "p99_ms_by_third": thirds,
        "threads": sorted({holdings.threads for _, holdings in samples}),
    }
    checks = {
        f"{tally.wrong} answers are wrong": not tally.wrong,
        f"{tally.closed} connections were closed and {tally.hung} requests hang": not tally.closed + tally.hung,
        f"{tally.missing} requests are in no count": not tally.missing,
        "the log counts otherwise than the client": by_route == sent_logged,
        "the metrics count otherwise than the log": counted == by_task,
        "the metrics count otherwise than the client": by_status(counted) == tally.of_tasks,
        f"memory grew from {warm[0]:.0f} to {max(warm):.0f} MB": max(warm) <= options.max_growth * warm[0],
        f"p99 drifted from {thirds[0]} to {thirds[-1]} ms": thirds[-1] <= options.max_drift * thirds[0],
    }
    return row, [text for text, holds in checks.items() if not holds]


def p99_by_third(tally: Tally) -> list[float]:
    """Return p99 of the first, second and last third of the answers, in milliseconds."""
    order = np.argsort(np.frombuffer(tally.began_s), kind="stable")
    times_ms = np.frombuffer(tally.took_ms)[order]
    return [round(float(np.percentile(third, 99)), 2) for third in np.array_split(times_ms, 3)]


def _named(counted: Counter[int]) -> dict[str, int]:
    return {str(status): counted[status] for status in sorted(counted)}


if __name__ == "__main__":
    sys.exit(main())
