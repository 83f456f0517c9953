"""Loads a service with Locust, headless: what `halfdepth loadtest` does unless a subcommand is named."""

import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, fields
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated

from loadtest.process import LoadTestError, service, sigterm_raised
from loadtest.record import record
from loadtest.routes import Route, post_paths, read_routes
from loadtest.users.balanced import balanced
from loadtest.users.locust_process import Processes, run_locust, run_worker
from loadtest.users.measured import Measured, table
from loadtest.users.payload_file import Payload, check_paths, read_payloads
from loadtest.users.plan import Plan
from loadtest.users.shapes import Shape
from loadtest.users.slo import Objective, check_routes, judge, read_objective
from models.tasks.errors import UsageError, run_command
from models.tasks.options import Flag, Options, read_options
from models.tasks.remote.address import service_url
from models.tasks.remote.client import KEY_HELP, Client, client_key

LATE_MS = 10.0
USERS = 8
PORT = 5557  # Locust's own


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadTestOptions(Options):
    """Load a service with Locust, headless; HTML, CSV, JSON and logs stay in a directory.

    The exit status is 1 if an objective of --slo is broken, or if a request failed or was refused and no objective is
    about errors; 2 if nothing could be loaded.
    """

    url: Annotated[str | None, Flag("a running service; without it one is started from this directory")] = None
    through_nginx: Annotated[
        bool, Flag("start two replicas of one core behind nginx with deploy/nginx.conf, and tell them apart")
    ] = False
    seconds: Annotated[int, Flag("duration of the load, seconds", above=0)] = 60
    model: Annotated[str | None, Flag("ask this model, by name or directory, on the routes of its task")] = None
    route: Annotated[str | None, Flag("ask this route alone, such as /qa", metavar="PATH")] = None
    payloads: Annotated[
        Path | None,
        Flag('JSONL with your own requests, {"path": "/qa", "body": {...}}, or bodies with --route', metavar="FILE"),
    ] = None
    api_key: Annotated[str | None, Flag(KEY_HELP, metavar="KEY")] = None
    users: Annotated[
        int | None, Flag("number of users over all routes, each with 0.1 s between requests (default: 8)", above=0)
    ] = None
    rate: Annotated[
        float | None,
        Flag("open loop: send so many requests a second, whether or not earlier ones were answered", above=0),
    ] = None
    shape: Annotated[Shape, Flag("how --users or --rate change over the run")] = "steady"
    timeout: Annotated[float, Flag("a request without an answer for so long has failed, seconds", above=0)] = 30.0
    slo: Annotated[
        tuple[str, ...],
        Flag("objectives: 'qa.p99<30ms', 'qa.tokenization.p95<1ms', 'errors<0.1%', 'rate>100/s'", repeats=True),
    ] = ()
    workers: Annotated[int, Flag("number of Locust processes that send; 1 is this one alone", above=0)] = 1
    master: Annotated[bool, Flag("wait for as many --workers from other machines instead of starting them")] = False
    worker: Annotated[str | None, Flag("send for the --master on this host, which tells what", metavar="HOST")] = None
    master_port: Annotated[int, Flag("port of --master, and where --worker finds it", above=0, below=65536)] = PORT
    out: Annotated[Path, Flag("directory for the reports and the logs", metavar="DIR")] = Path("runs/loadtest")

    def check(self) -> None:
        if self.url and self.through_nginx:
            raise UsageError("--url names a running service, and --through-nginx starts one; give one of them")
        if self.payloads and self.model:
            raise UsageError("the bodies of --payloads name their model themselves; leave out --model")
        if self.rate and self.users:
            raise UsageError("--users is a closed loop and --rate an open one; give one of them")
        if self.worker:
            self._check_worker()

    def _check_worker(self) -> None:
        """Raises: UsageError if a worker is told what the master tells it."""
        worker_fields = {"worker", "master_port", "api_key", "out"}
        master_fields = [field.name for field in fields(self) if field.name not in worker_fields]
        names = [
            name for name in master_fields if getattr(self, name) != LoadTestOptions.__dataclass_fields__[name].default
        ]
        if names:
            flags = ", ".join(f"--{name.replace('_', '-')}" for name in names)
            raise UsageError(f"a --worker is told by its master what to do; give {flags} there")


def main(argv: Sequence[str] | None, *, prog: str) -> int:
    return run_command(prog, run, prog, argv)


def run(prog: str, argv: Sequence[str] | None) -> int:
    """Load, print and record. Raises: LoadTestError, ClientError, UsageError; StoppedError after SIGTERM."""
    options = read_options(LoadTestOptions, prog, argv)
    objectives = [read_objective(text) for text in options.slo]
    payloads = read_payloads(options.payloads, options.route) if options.payloads else []
    if find_spec("locust") is None:
        raise LoadTestError("locust is not installed; install it with pip install 'halfdepth[loadtest]'")
    key = client_key(options.api_key)
    out = options.out.resolve()
    out.mkdir(parents=True, exist_ok=True)
    with sigterm_raised():
        if options.worker:
            run_worker(options.worker, options.master_port, key, out)
            return 0
        with loaded(options, out) as url:
            routes = chosen(Client(url, key), options, payloads)
            plan = Plan(
                routes=tuple(routes),
                payloads=tuple((payload.path, payload.body) for payload in payloads),
                shape=options.shape,
                seconds=options.seconds,
                users=options.users or USERS,
                rate=options.rate,
                workers=options.workers,
                timeout_s=options.timeout,
            )
            check_routes(objectives, plan.paths)
            processes = Processes(options.workers, options.master, options.master_port)
            if options.master:
                hint = f"run `halfdepth loadtest --worker HOST --master-port {options.master_port}` there"
                sys.stderr.write(f"waiting for workers on other machines, {options.workers} in all; {hint}\n")
            result = run_locust(plan, url, key, out, processes)
    argv = None if argv is None else [*prog.split(), *argv]
    record("load", result.rows(), argv).write(out / "load.json")
    sys.stdout.write(table(result))
    return conclude(objectives, result)


@contextmanager
def loaded(options: LoadTestOptions, out: Path) -> Iterator[str]:
    """Yield the URL of what is to be loaded. Raises: LoadTestError, UsageError."""
    with ExitStack() as stack:
        if options.url:
            yield service_url(options.url)
        elif options.through_nginx:
            yield stack.enter_context(balanced(out))
        else:
            yield stack.enter_context(service(out / "service.log")).url


def chosen(client: Client, options: LoadTestOptions, payloads: Sequence[Payload]) -> list[Route]:
    """List the routes to ask.

    Raises: ClientError, LoadTestError if nothing can be asked there, which Locust would tell of every user.
    """
    routes = read_routes(client, options.model)
    if options.payloads:
        check_paths(options.payloads, payloads, post_paths(client))
    if not routes and options.model is not None:
        raise LoadTestError(f"{client.url} has no model {options.model}; its /info lists those that are loaded")
    if not routes:
        raise LoadTestError(f"{client.url} has no bundle; add one to the directory that it serves")
    if options.route is not None and not options.payloads:
        paths = ", ".join(route.path for route in routes)
        routes = [route for route in routes if route.path.strip("/") == options.route.strip("/")]
        if not routes:
            raise LoadTestError(f"there is no route {options.route} to load; there are {paths}")
    return routes


def conclude(objectives: Sequence[Objective], result: Measured) -> int:
    """Say which objectives hold. Returns: the exit status."""
    lateness = max((times.p99_ms for times in result.times if times.kind == "client"), default=0.0)
    if lateness > LATE_MS:
        sys.stderr.write(
            f"Locust itself was late by {lateness:.0f} ms for one request in a hundred, which is in their times: "
            "give it more --workers, and cores that the service does not use\n"
        )
    verdicts = [judge(objective, result) for objective in objectives]
    for verdict in verdicts:
        sys.stdout.write(f"{verdict}\n")
    status = 0 if all(verdict.is_kept for verdict in verdicts) else 1
    are_errors_allowed = any(objective.measure in ("errors", "refused") for objective in objectives)
    if result.total.failures and not are_errors_allowed:
        hint = "; --slo 'errors<1%' allows some" if objectives else ""
        sys.stdout.write(f"{result.total.failures} of {result.total.requests} requests failed{hint}\n")
        status = 1
    if not result.total.requests:
        raise LoadTestError("no request was sent; locust.log in the directory of --out says why")
    return status
