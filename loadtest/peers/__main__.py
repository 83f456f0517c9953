"""Runs `halfdepth loadtest peers`: other servers beside ours, with the same requests."""

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from loadtest.bench.measurements import say
from loadtest.payloads import QUESTION, passage_of
from loadtest.peers.environments import install, is_installed, make_models, model_path, python_of
from loadtest.peers.forms import Texts
from loadtest.peers.measurements import NAME, Ours, Plan, Row, client_limits, compare, our_rows, ours, refused
from loadtest.peers.registry import PEERS, Model, Peer
from loadtest.peers.running import Start, running
from loadtest.process import LoadTestError, sigterm_raised
from loadtest.record import record
from models.tasks.base import TaskName
from models.tasks.build import SPECS, build_task
from models.tasks.bundle import Bundle, load_bundle
from models.tasks.errors import needs_extra, run_command
from models.tasks.options import Flag, Options, read_options

with needs_extra("halfdepth loadtest peers", "loadtest"):
    from tqdm import tqdm

TOKENS: Mapping[TaskName, int] = {"qa": 71, "classify": 64, "similarity": 64}
NAMES = tuple(peer.name for peer in PEERS)


@dataclass(frozen=True, slots=True, kw_only=True)
class PeersOptions(Options):
    """Measure other servers beside ours: the same machine, requests and weights, in turns.

    With --install, make the peers' virtual environments and models and measure nothing; a package index is needed.
    Without it, measure those that are installed; every other one is a row with its reason. The machine should have
    nothing else to do meanwhile. Runs on Linux only.
    """

    install: Annotated[bool, Flag("make virtual environments and models, and measure nothing")] = False
    only: Annotated[
        tuple[str, ...], Flag("peers to measure or install (default: all)", choices=NAMES, metavar="NAME")
    ] = ()
    rounds: Annotated[int, Flag("rounds of each peer and of ours, taken in turns", above=0)] = 3
    seconds: Annotated[float, Flag("duration of a round, seconds", above=0)] = 1.0
    concurrency: Annotated[tuple[int, ...], Flag("numbers of connections that are kept busy", above=0)] = (1, 8, 32)
    idle_seconds: Annotated[
        float, Flag("how long CPU is read without requests, and at 5 a second, seconds", above=0)
    ] = 10.0
    start_seconds: Annotated[float, Flag("when a peer that does not answer is ended, seconds", above=0)] = 120.0
    install_seconds: Annotated[float, Flag("when an installation is ended, seconds", above=0)] = 900.0
    bundles: Annotated[Path, Flag("directory with our bundles qa, classify and similarity", metavar="DIR")] = Path(
        "bundles"
    )
    environments: Annotated[Path, Flag("directory of the virtual environments and models", metavar="DIR")] = Path(
        "runs/peers"
    )
    out: Annotated[Path, Flag("file to write the rows into, as JSON", metavar="FILE")] = Path("runs/peers.json")


def main(argv: Sequence[str] | None = None, *, prog: str = "python -m loadtest.peers") -> int:
    return run_command(prog, run, prog, argv)


def run(prog: str, argv: Sequence[str] | None, peers: Sequence[Peer] = PEERS) -> None:
    """Install the peers, or measure them and write the record.

    Raises: BundleError, LoadTestError, UsageError; StoppedError after SIGTERM, once what was started has ended.
    """
    options = read_options(PeersOptions, prog, argv)
    chosen = [peer for peer in peers if not options.only or peer.name in options.only]
    tasks = [task for task in TOKENS if any(task in peer.forms for peer in chosen)]
    bundles = [load_bundle(options.bundles / task, task) for task in tasks]
    with sigterm_raised():
        if options.install:
            install_all(chosen, bundles, options)
        else:
            rows = measure_all(chosen, bundles, options)
            say(table(rows))
            say(f"\nwritten to {options.out}")


def install_all(peers: Sequence[Peer], bundles: Sequence[Bundle], options: PeersOptions) -> None:
    for bundle in tqdm(bundles, desc="models", unit="bundle"):
        make_models(bundle, options.environments)
    for peer in tqdm(peers, desc="environments", unit="peer"):
        reason = None
        if not is_installed(peer, options.environments):
            reason = install(peer, options.environments, options.install_seconds)
        say(f"{peer.name:<32} {'installed' if reason is None else reason}")


def measure_all(peers: Sequence[Peer], bundles: Sequence[Bundle], options: PeersOptions) -> list[Row]:
    """Measure task by task; what is done so far is in the file at any time."""
    plan = Plan(options.rounds, options.seconds, options.idle_seconds, options.concurrency)
    limits = client_limits(plan.concurrency, plan.seconds)
    rows: list[Row] = []
    pairs = sum(len(peer.models) for peer in peers for bundle in bundles if bundle.task in peer.forms)
    with tqdm(total=pairs, unit="server") as progress:
        for bundle in bundles:
            with ours(bundle, texts_of(bundle), plan) as our_service:
                for peer in [peer for peer in peers if bundle.task in peer.forms]:
                    for model in peer.models:
                        progress.set_description(f"{peer.name}, {model}")
                        rows += measure_one(peer, model, bundle, our_service, plan, limits, options)
                        record("peers", rows + our_rows(our_service, limits)).write(options.out)
                        progress.update()
                rows += our_rows(our_service, limits)
    record("peers", rows).write(options.out)
    return rows


def measure_one(
    peer: Peer,
    model: Model,
    bundle: Bundle,
    our_service: Ours,
    plan: Plan,
    limits: Mapping[int, float],
    options: PeersOptions,
) -> list[Row]:
    """Start a peer, compare it and end it. Returns: its rows, or one with the reason why there are none."""
    request = peer.forms[bundle.task].request(our_service.texts)
    try:
        python = python_of(peer, options.environments)
        path = model_path(model, bundle, options.environments)
        with running(peer, Start(python, bundle.task, path, request, options.start_seconds)) as peer_server:
            return compare(our_service, peer, model, peer_server, plan, limits)
    except (LoadTestError, OSError, ValueError) as error:  # ValueError: an answer of another form
        return [refused(peer, bundle.task, model, str(error))]


def texts_of(bundle: Bundle) -> Texts:
    """Make the texts of the request, in as many tokens as TOKENS."""
    tokenizer = build_task(bundle, SPECS[bundle.task].graph_outputs).tokenizer
    tokens = TOKENS[bundle.task]
    if bundle.task == "qa":
        return {"question": QUESTION, "context": passage_of(tokens, tokenizer, QUESTION)}
    return {"text": passage_of(tokens, tokenizer)}


def table(rows: Sequence[Row]) -> str:
    """Write the rows for people; times: the peer's p50 and requests over ours in the same rounds."""
    lines = [
        "task        peer                            model       connections  requests/s  of ours  p50 ms  of ours"
        "   p99 ms   MB  start s  idle s  5/s s"
    ]
    for row in rows:
        head = f"{row['task']:<11} {row['peer']:<31} {row['model']:<10}"
        if row["reason"] is not None:
            lines.append(f"{head}  {row['reason']}")
            continue
        rate, p50 = row["requests_per_s"], row["p50_ms"]
        beside = row["peer"] != NAME
        lines.append(
            f"{head}  {row['concurrency']:11}  {rate:10.0f}  {rate / row['ours_requests_per_s'] if beside else 1:7.2f}"
            f"  {p50:6.2f}  {p50 / row['ours_p50_ms'] if beside else 1:7.2f}  {row['p99_ms']:7.1f}"
            f"  {row['memory_mb']:4.0f}  {row['start_s']:6.1f}  {row['idle_cpu_s']:6.2f}  {row['five_rps_cpu_s']:5.2f}"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
