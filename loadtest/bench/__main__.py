"""Runs `halfdepth bench`: what the service costs and bears, beside the same work in process."""

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from loadtest.bench.against_plain import Comparison, against_plain
from loadtest.bench.measurements import LOADED, Subject, cost, fairness, lists, load, memory, overload, sameness, say
from loadtest.bench.profile import Loaded, profile
from loadtest.process import resident_mb, service, sigterm_raised
from loadtest.routes import read_all_routes
from models.tasks.base import TaskName
from models.tasks.bundle import Bundle, bundle_paths, load_bundle
from models.tasks.directory.files import BundleError
from models.tasks.errors import UsageError, run_command
from models.tasks.options import Flag, Options, read_options
from models.tasks.remote.client import KEY_HELP, Client, client_key

Part = Literal["cost", "lists", "load", "fairness", "sameness", "overload", "memory"]


@dataclass(frozen=True, slots=True, kw_only=True)
class BenchOptions(Options):
    """Measure what the service costs and bears, beside the same work in process: starts it, measures, prints.

    The machine should have nothing else to do meanwhile. Runs on Linux only.
    """

    bundles: Annotated[Path, Flag("directory of the bundles to serve; one must be for qa", metavar="DIR")] = Path(
        "bundles"
    )
    only: Annotated[tuple[Part, ...], Flag("parts to measure; memory takes half an hour")] = (
        "cost",
        "lists",
        "load",
        "fairness",
        "sameness",
        "overload",
    )
    model: Annotated[str | None, Flag("ask this bundle, by name or directory, instead of its task's default")] = None
    api_key: Annotated[str | None, Flag(KEY_HELP, metavar="KEY")] = None
    threads: Annotated[str, Flag("value of HALFDEPTH_THREADS for the service")] = "auto"
    tokens: Annotated[tuple[int, ...], Flag("input lengths that cost measures, tokens", above=0)] = (
        16,
        32,
        64,
        128,
        256,
        384,
    )
    rounds: Annotated[int, Flag("blocks of 25 calls in cost; calls of lists; rounds of --against-plain", above=0)] = 12
    concurrency: Annotated[tuple[int, ...], Flag("numbers of connections that load keeps busy", above=0)] = (8, 32)
    seconds: Annotated[float, Flag("duration of fairness, and of load at each concurrency, seconds", above=0)] = 10.0
    requests: Annotated[int, Flag("number of requests that sameness sends", above=0)] = 10_000
    overload_seconds: Annotated[float, Flag("how long overload sends twice the load, seconds", above=0)] = 60.0
    against_plain: Annotated[
        bool, Flag("compare the service with the simplest server that anybody would write, and measure nothing else")
    ] = False
    profile: Annotated[bool, Flag("print where the CPU of a request goes under load, and measure nothing else")] = False
    starts: Annotated[int, Flag("how often --against-plain starts the service for concurrency 1", at_least=0)] = 10
    memory_minutes: Annotated[int, Flag("how long memory sends requests of changing lengths, minutes", above=0)] = 30

    def check(self) -> None:
        if self.against_plain and self.profile:
            raise UsageError("--against-plain and --profile are measured one at a time; give one of them")


def main(argv: Sequence[str] | None = None, *, prog: str = "python -m loadtest.bench") -> int:
    return run_command(prog, run, prog, argv)


def run(prog: str, argv: Sequence[str] | None) -> None:
    """Measure the parts that are asked for.

    Raises: BundleError, LoadTestError; StoppedError after SIGTERM, once the service has ended as well.
    """
    options = read_options(BenchOptions, prog, argv)
    bundles = asked(list(map(load_bundle, bundle_paths(options.bundles))), options.model)
    if LOADED not in bundles:
        raise BundleError(f"{options.bundles} has no bundle for {LOADED}, which load and overload need")
    with sigterm_raised():
        comparison = Comparison(bundles[LOADED], options.bundles, options.seconds, options.rounds, options.starts)
        if options.against_plain:
            against_plain(comparison)
        elif options.profile:
            request = comparison.request(model=comparison.bundle.path.name)
            profile(Loaded(options.bundles, request, options.concurrency[0], options.seconds))
        else:
            measure(options, bundles)


def asked(bundles: Sequence[Bundle], model: str | None) -> dict[TaskName, Bundle]:
    """Choose the bundle of each task: the one of this name or directory, or else the default.

    Raises: BundleError if no bundle has that name.
    """
    named = [bundle for bundle in bundles if model in (bundle.name, bundle.path.name)]
    if model is not None and not named:
        raise BundleError(f"no bundle is called {model}; there are {', '.join(bundle.name for bundle in bundles)}")
    weakest_first = sorted(bundles, key=lambda bundle: (bundle in named, bundle.path.name == bundle.task))
    chosen = {bundle.task: bundle for bundle in weakest_first}
    return {bundle.task: chosen[bundle.task] for bundle in bundles}


def measure(options: BenchOptions, bundles: Mapping[TaskName, Bundle]) -> None:
    settings = {"BUNDLES": str(options.bundles), "MODELS": "", "THREADS": options.threads, "LOG_FORMAT": "json"}
    with service(**settings) as server:
        process = server.process
        client = Client(server.url, client_key(options.api_key))
        info, routes = client.get("/info"), read_all_routes(client, options.model)
        subject = Subject(server.url, client.key, process, bundles, routes, info["threads"], info["workers"])
        say(f"{', '.join(bundles)}: listening after {server.seconds:.2f} s, {resident_mb(process.pid):.0f} MB resident")
        best_rate = 0.0
        if "cost" in options.only:
            cost(subject, options.tokens, options.rounds)
        if "lists" in options.only:
            lists(subject, options.rounds)
        if {"load", "overload"} & set(options.only):
            best_rate = load(subject, options.concurrency, options.seconds)
        if "fairness" in options.only:
            fairness(subject, options.seconds)
        if "sameness" in options.only:
            sameness(subject, options.requests)
        if "memory" in options.only:
            memory(subject, options.memory_minutes)
        say(f"\nnow {resident_mb(process.pid):.0f} MB resident")
        if "overload" in options.only:
            overload(subject, best_rate, options.overload_seconds)


if __name__ == "__main__":
    sys.exit(main())
