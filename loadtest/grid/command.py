"""Runs `halfdepth loadtest grid`: the latency of one request by task, precision, threads and length."""

import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Any

from loadtest.bench.measurements import Subject, works_of
from loadtest.grid.cells import Bounds, Cell, measure
from loadtest.grid.fp32 import write_fp32
from loadtest.process import Service, service, sigterm_raised
from loadtest.record import record
from loadtest.routes import read_routes
from models.tasks.bundle import Bundle, bundle_paths, load_bundle
from models.tasks.directory.files import BundleError
from models.tasks.errors import UsageError, run_command
from models.tasks.options import Flag, Options, read_options
from models.tasks.remote.client import Client, client_key

TOKENS = (8, 16, 32, 64, 128, 256, 384, 512)
SHORT_TOKENS = (16, 128, 384)
FLOAT = "--float"  # behind the name of a bundle's directory
LEAST_TOKENS = 8  # a question, a word and special tokens
WHOLE = Bounds(share=0.02, seconds=540, block=25, least=100)
SHORT = Bounds(share=0.05, seconds=30, block=5, least=20)


@dataclass(frozen=True, slots=True, kw_only=True)
class GridOptions(Options):
    """Measure the latency of one request at a time: each task, fp32 and int8, one thread and all, by length.

    Starts a service of one thread and one of all, and asks them in turns. The machine should have nothing else to do.
    A bundle without an fp32 graph gets one: its int8 graph with the products in float. Runs on Linux only.
    """

    bundles: Annotated[Path, Flag("directory of bundles, or one bundle", metavar="DIR")] = Path("bundles")
    short: Annotated[bool, Flag(f"the default bundle of each task, at {SHORT_TOKENS} tokens, in under a minute")] = (
        False
    )
    tokens: Annotated[tuple[int, ...], Flag("input lengths, tokens", at_least=LEAST_TOKENS)] = TOKENS
    seconds: Annotated[
        float | None,
        Flag(f"bound of time, seconds (default: {WHOLE.seconds:g}, or {SHORT.seconds:g} with --short)", above=0),
    ] = None
    share: Annotated[
        float | None,
        Flag(
            "repeat until the median's 95% interval is within this share of it on either side"
            f" (default: {WHOLE.share:g}, or {SHORT.share:g} with --short)",
            above=0,
            below=1,
        ),
    ] = None
    out: Annotated[Path, Flag("file of the rows, JSON", metavar="FILE")] = Path("runs/loadtest/grid.json")

    def check(self) -> None:
        if self.short and self.tokens != TOKENS:
            raise UsageError("--short has lengths of its own; leave out --tokens")

    @property
    def bounds(self) -> Bounds:
        usual = SHORT if self.short else WHOLE
        return replace(usual, share=self.share or usual.share, seconds=self.seconds or usual.seconds)


@dataclass(frozen=True, slots=True)
class Graph:
    """Describes a graph to measure. `name`: its directory among those that are served, or "" if there is no graph."""

    bundle: Bundle
    precision: str
    name: str
    note: str = ""


def main(argv: Sequence[str] | None = None, *, prog: str = "halfdepth loadtest grid") -> int:
    return run_command(prog, run, prog, argv)


def run(prog: str, argv: Sequence[str] | None) -> None:
    """Raises: BundleError, LoadTestError, UsageError; StoppedError after SIGTERM, once the services have ended."""
    options = read_options(GridOptions, prog, argv)
    bundles = [load_bundle(path) for path in bundle_paths(options.bundles.resolve())]
    if options.short:
        bundles = default_bundles(bundles)
    if not bundles:
        raise BundleError(f"{options.bundles} has no bundle")
    lengths = SHORT_TOKENS if options.short else options.tokens
    with sigterm_raised(), TemporaryDirectory() as scratch:
        graphs = lay_out(bundles, Path(scratch))
        with services(Path(scratch)) as found:
            cells = [cell for server in found for graph in graphs for cell in cells_of(graph, server, lengths)]
            measure([cell for cell in cells if cell.request], options.bounds)
    rows = [cell.row() for cell in cells]
    record("grid", rows, None if argv is None else [*prog.split(), *argv]).write(options.out)
    sys.stdout.write(table(rows))


def default_bundles(bundles: Sequence[Bundle]) -> list[Bundle]:
    """Keep one of each task: the one in the directory named after it, or else the first."""
    chosen: dict[str, Bundle] = {}
    for bundle in bundles:
        if bundle.task not in chosen or bundle.path.name == bundle.task:
            chosen[bundle.task] = bundle
    return list(chosen.values())


def lay_out(bundles: Sequence[Bundle], root: Path) -> list[Graph]:
    """Link the bundles into a directory, each beside one with its graph of the other precision, if there is one."""
    graphs = []
    names = {bundle.path.name for bundle in bundles}
    for bundle in bundles:
        # A service needs a default of each task: the bundle in the directory named after it.
        name = bundle.path.name if bundle.task in names else bundle.task
        names.add(name)
        (root / name).symlink_to(bundle.path.resolve(), target_is_directory=True)
        if bundle.precision != "int8":
            graphs.append(Graph(bundle, bundle.precision, name))
            graphs.append(Graph(bundle, "int8", "", "the bundle has no int8 graph; halfdepth export makes one"))
            continue
        graphs.append(Graph(bundle, "int8", name))
        try:
            note = write_fp32(bundle, root / f"{name}{FLOAT}")
        except BundleError as error:
            graphs.append(Graph(bundle, "fp32", "", f"no fp32 graph: {error}"))
        else:
            graphs.append(Graph(bundle, "fp32", f"{name}{FLOAT}", note))
    return graphs


@contextmanager
def services(bundles: Path) -> Iterator[list[Service]]:
    """Yield a service with one thread and, where there are more cores, one with all."""
    with ExitStack() as stack:
        found = list[Service]()
        for threads in ("1", "auto"):
            running = stack.enter_context(service(BUNDLES=str(bundles), MODELS="", THREADS=threads))
            if threads == "1" or thread_count(running.url) > 1:
                found.append(running)
        yield found


def thread_count(url: str) -> int:
    threads: int = Client(url, client_key(None)).get("/info")["threads"]
    return threads


def cells_of(graph: Graph, server: Service, lengths: Sequence[int]) -> list[Cell]:
    """Make the cells of a graph; one without requests where there is no graph."""
    client, threads = Client(server.url, client_key(None)), thread_count(server.url)
    bundle = graph.bundle
    fields: dict[str, Any] = {"task": bundle.task, "bundle": bundle.name, "precision": graph.precision}
    fields |= {"threads": threads, "url": server.url, "note": graph.note}
    if not graph.name:
        return [Cell(**fields, tokens=tokens, request=b"") for tokens in lengths]
    routes = read_routes(client, graph.name)
    subject = Subject(server.url, client.key, server.process, {bundle.task: bundle}, routes, threads, 1)
    works = works_of(subject, bundle.task, lengths)
    return [Cell(**fields, tokens=tokens, request=request) for tokens, (_, request) in zip(lengths, works, strict=True)]


def table(rows: Sequence[dict[str, Any]]) -> str:
    """Write the medians of the stages beside the percentiles end to end."""
    names = ("bundle", "precision", "threads", "tokens", "repeats")
    figures = ("tokenization_p50_ms", "inference_p50_ms", "end_to_end_p50_ms", "end_to_end_p95_ms", "end_to_end_p99_ms")
    head = "bundle                   precision threads tokens repeats"
    lines = [
        "one request at a time over HTTP, milliseconds; +-: half the 95% interval of the median, as a share of it",
        f"{head} tokenization inference      p50      p95      p99     +-",
    ]
    for row in rows:
        bundle, precision, threads, tokens, repeats = (row[name] for name in names)
        line = f"{bundle:<24} {precision:<9} {threads:>7} {tokens:>6} {repeats:>7} "
        if not repeats:
            lines.append(line + row["reason"])
            continue
        tokenization, inference, *percentiles = (row[name] for name in figures)
        line += f"{tokenization:>12.3f} {inference:>9.3f} " + " ".join(f"{figure:>8.3f}" for figure in percentiles)
        line += f" {row['end_to_end_ci_half_width']:>6.1%}"
        line += f"  {row['windows']} windows" if row["windows"] > 1 else ""
        lines.append(line + ("  truncated" if row["truncated"] else ""))
    notes = sorted({f"{row['precision']}: {row['note']}" for row in rows if row["note"]})
    return "\n".join([*lines, *notes]) + "\n"
