"""Runs `halfdepth batch`: answers a file of requests as the service would, without HTTP."""

import asyncio
import json
import math
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from time import perf_counter
from typing import Annotated, Any

from pydantic import ValidationError
from tqdm import tqdm

from models.tasks.errors import UsageError, needs_extra, run_command
from models.tasks.options import Flag, Options, read_options
from service.batch.lines import Answered, LineAnswers, lines_of
from service.batch.output import Output, read_through
from service.batch.pieces import Work
from service.batch.run import Tally, bundles_of, run_until_stopped
from service.docs.pages import installed_version
from service.engine.engine import Engine
from service.routes import ROUTES
from service.settings import Settings, explain
from service.startup.loading import load_engine

PATHS = tuple(row.path for row in ROUTES if row.is_ours)
OF_ANSWERS = ("max_body_bytes", "max_inputs", "max_windows")  # settings that change what is answered
SIGNALLED = 128  # what a shell adds to the number of the signal that ended a process


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchOptions(Options):
    """Answer a file of requests as the service would, without HTTP: JSON Lines in, JSON Lines out, in the same order.

    A line is {"route": "/qa", "body": {...}}, or with --route a body by itself; an "id" beside it comes back. What is
    refused becomes a line with an "error", which has the code that it would have over HTTP. The same command goes on
    where a run was killed. The service's environment variables hold here too (halfdepth serve --help).
    """

    source: Annotated[Path, Flag("file of requests, one a line", metavar="IN", positional=True)]
    out: Annotated[
        Path, Flag("file of answers, one a line; its state is kept in OUT.state", metavar="OUT", positional=True)
    ]
    route: Annotated[str | None, Flag("route of every line, which is then a body by itself", choices=PATHS)] = None
    bundles: Annotated[
        Path | None, Flag("directory of bundles, or one bundle, instead of that of HALFDEPTH_BUNDLES", metavar="DIR")
    ] = None
    timings: Annotated[bool, Flag("keep timings_ms in the answers, with which no two runs give the same bytes")] = False
    ray: Annotated[
        str | None,
        Flag(
            "run on a Ray cluster, by its address (auto, HOST:PORT) or one of this machine's own (local); every node "
            "needs IN and the bundles at the same paths",
            metavar="ADDRESS",
        ),
    ] = None
    strict: Annotated[bool, Flag("end at the first line that is refused, with status 2")] = False

    def check(self) -> None:
        if self.source == self.out:
            raise UsageError("IN and OUT are the same file")


def main(argv: Sequence[str] | None = None, *, prog: str = "python -m service.batch") -> int:
    """Return the exit status: 0 if every line has its answer or its error, 128 and its number after a signal."""
    return run_command(prog, run, prog, argv)


def run(prog: str, argv: Sequence[str] | None) -> int:
    """Answer the lines that have no answer yet. Raises: UsageError, BatchError, BundleError, OSError."""
    options = read_options(BatchOptions, prog, argv)
    cluster = None if options.ray is None else _cluster(options.ray)
    settings = read_settings(options)
    digest, count = read_through(options.source)
    began = perf_counter()
    engine = load_engine(settings)
    answers = LineAnswers(ROUTES, engine, route=options.route, timings=options.timings, max_inputs=settings.max_inputs)
    with (
        Output(options.out, _made_of(digest, engine, options, settings)) as output,
        options.source.open("rb") as file,
        tqdm(total=count, initial=output.done, desc=options.out.name, unit="line") as bar,
    ):

        def write(answered: Answered) -> None:
            output.write(answered.content)
            bar.update()

        tally = Tally(strict=options.strict, before=output.done)
        if cluster is None:
            lines = lines_of(file, settings.max_body_bytes, skip=output.done)
            asyncio.run(run_until_stopped(engine, lines, answers.answer, write, tally))
        else:
            on_nodes = settings.model_copy(update={"bundles": settings.bundles.resolve()})
            work = Work(options.source.resolve(), on_nodes, options.route, options.timings, bundles_of(engine))
            for answered in cluster(work, output.done):
                tally.count(answered)
                write(answered)
    counts = {"lines": count, "there_already": output.done, "answered": tally.answered, "refused": tally.refused}
    sys.stdout.write(json.dumps(counts | {"seconds": round(perf_counter() - began, 1)}) + "\n")
    if tally.stopped is None:
        return 0
    sys.stderr.write(f"{prog}: stopped; the same command goes on\n")
    return SIGNALLED + tally.stopped


def read_settings(options: BatchOptions) -> Settings:
    """Read the environment, and over it the options. A batch waits for its turn, however long. Raises: UsageError."""
    arguments: dict[str, Any] = {} if options.bundles is None else {"bundles": options.bundles, "models": ()}
    try:
        return Settings(**arguments).model_copy(update={"max_queue_ms": math.inf})
    except ValidationError as error:
        raise UsageError(explain(error)) from error


def _cluster(address: str) -> Callable[[Work, int], Iterator[Answered]]:
    """Return what answers the lines behind so many, by Ray Data. Without Ray the process ends, with a line."""
    with needs_extra("halfdepth batch --ray", "ray"):
        from service.batch.ray_data import answers_of
    return partial(answers_of, address)


def _made_of(digest: str, engine: Engine, options: BatchOptions, settings: Settings) -> dict[str, Any]:
    """List what the output depends on, by names that people read where one has changed."""
    limits = {name: getattr(settings, name) for name in OF_ANSWERS}
    return {
        "input": digest,
        "set of bundles": bundles_of(engine),
        "version of halfdepth": installed_version("halfdepth"),
        "route": options.route,
        "choice of --timings": options.timings,
        "set of limits": limits,
    }


if __name__ == "__main__":
    sys.exit(main())
