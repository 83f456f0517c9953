"""Loads a service with Locust, headless: what `halfdepth loadtest` does unless a subcommand is named."""

import subprocess
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated

from loadtest.process import ROOT, LoadTestError, python_environment, python_module, service
from loadtest.routes import read_routes
from models.tasks.errors import run_command
from models.tasks.options import Flag, Options, read_options
from models.tasks.remote.address import service_url
from models.tasks.remote.client import KEY_HELP, KEY_VARIABLE, Client, client_key

LOCUSTFILE = Path(__file__).with_name("locustfile.py")


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadTestOptions(Options):
    """Load a service with Locust, headless; HTML, CSV and the service's log stay in a directory.

    The exit status is Locust's own, which is 1 if a request failed or was refused; 2 if nothing could be loaded.
    """

    url: Annotated[str | None, Flag("a running service; without it one is started from this directory")] = None
    seconds: Annotated[int, Flag("duration of the load, seconds", above=0)] = 60
    model: Annotated[str | None, Flag("ask this model, by name or directory, on the routes of its task")] = None
    api_key: Annotated[str | None, Flag(KEY_HELP, metavar="KEY")] = None
    users: Annotated[int, Flag("number of users over all routes, each with 0.1 s between requests", above=0)] = 8
    out: Annotated[Path, Flag("directory for the reports and the log", metavar="DIR")] = Path("runs/loadtest")


def check(client: Client, model: str | None) -> None:
    """Raises: ClientError, LoadTestError if nothing can be asked there, which Locust would tell of every user."""
    routes = read_routes(client, model)
    if not routes and model is not None:
        raise LoadTestError(f"{client.url} has no model {model}; its /info lists those that are loaded")
    if not routes:
        raise LoadTestError(f"{client.url} has no bundle; add one to the directory that it serves")


def main(argv: Sequence[str] | None, *, prog: str) -> int:
    return run_command(prog, run, prog, argv)


def run(prog: str, argv: Sequence[str] | None) -> int:
    """Return Locust's exit status. Raises: LoadTestError, ClientError, UsageError."""
    options = read_options(LoadTestOptions, prog, argv)
    if find_spec("locust") is None:
        raise LoadTestError("locust is not installed; install it with pip install 'halfdepth[loadtest]'")
    key = client_key(options.api_key)
    out = options.out.resolve()
    out.mkdir(parents=True, exist_ok=True)
    with ExitStack() as stack:
        url = service_url(options.url) if options.url else stack.enter_context(service(out / "service.log")).url
        pace = ["--users", str(options.users), "--spawn-rate", str(options.users)]
        reports = ["--html", str(out / "report.html"), "--csv", str(out / "locust"), "--only-summary"]
        headless = ["--headless", "--run-time", f"{options.seconds}s", "--host", url]
        model = ["--model", options.model] if options.model else []
        command = [*python_module("locust"), "--locustfile", str(LOCUSTFILE), *headless, *pace, *reports, *model]
        check(Client(url, key), options.model)
        environment = python_environment(**({} if key is None else {KEY_VARIABLE: key}))
        # Locust imports from the directory that it runs in before anything else, so it runs in ours.
        return subprocess.run(command, env=environment, cwd=ROOT, check=False).returncode
