"""Runs `halfdepth serve`: serve the bundles over HTTP until SIGTERM or Ctrl-C."""

import gc
import logging
import os
import signal
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from pydantic import ValidationError

from models.tasks.directory.files import BundleError
from models.tasks.errors import HalfdepthError, UsageError, run_command
from models.tasks.options import Flag, Options, read_options
from service.app import create_app
from service.http.gate import Lifecycle
from service.http.protocol import Config
from service.http.server import Server, allow_many_connections
from service.http.sockets import listening_sockets
from service.settings import Settings, SettingsError, explain, help_text, injected_variables
from service.startup.clock import StartClock, process_age
from service.startup.memory import give_freed_memory_back
from service.telemetry.logs import configure_logging

logger = logging.getLogger("service")


class StartError(HalfdepthError):
    """The service cannot start with the bundles that it was given."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ServeOptions(Options):
    """Serve question answering, classification and similarity over HTTP: the tasks that have a bundle.

    Everything else is set by environment variables.
    """

    models: Annotated[
        tuple[str, ...],
        Flag(
            "name on the Hugging Face Hub (org/name, org/name@revision) or directory; several are served together, "
            "instead of HALFDEPTH_MODELS and HALFDEPTH_BUNDLES",
            metavar="MODEL",
            positional=True,
        ),
    ] = ()
    bundles: Annotated[
        Path | None, Flag("directory of bundles, or one bundle, instead of that of HALFDEPTH_BUNDLES", metavar="DIR")
    ] = None

    def check(self) -> None:
        if not all(model.strip() for model in self.models):
            raise UsageError("the name of a model is empty; name one on the Hugging Face Hub, or a directory")
        if self.models and self.bundles is not None:
            raise UsageError(f"give --bundles or models by name, not both; name {self.bundles} among the models")


def main(argv: Sequence[str] | None = None, *, prog: str = "python -m service") -> int:
    """Return the exit status: 0 after a signal, 1 if the service cannot start, 2 on a wrong setting or argument.

    The process exits with 3 if the address is taken (uvicorn's own status), and after a second signal with 128 and its
    number.
    """
    open_missing_streams()
    return run_command(prog, run, prog, argv)


def open_missing_streams() -> None:
    """Let standard input, output and error be /dev/null where a parent has closed them.

    Otherwise the next socket would get the number of one, and a client what libraries print; and Python has None where
    log lines go.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest number that is free, which is this one
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, "w"))  # noqa: SIM115 (until the process ends)


def run(prog: str, argv: Sequence[str] | None) -> None:
    """Serve until a signal comes. Raises: UsageError, SettingsError, StartError."""
    clock = StartClock(process_age())
    give_freed_memory_back()
    options = read_options(ServeOptions, prog, without_word(argv), epilog=help_text())
    settings = read_settings(options)
    configure_logging(settings.log_format)
    if injected := injected_variables(os.environ):
        logger.warning("variables that Kubernetes injects for a Service are passed over: %s", ", ".join(injected))
    logger.info("settings", extra={"data": settings.model_dump(mode="json")})
    lifecycle = Lifecycle()
    for number in (signal.SIGINT, signal.SIGTERM):  # until the server has its own handlers
        signal.signal(number, lambda *_: sys.exit(0))
    signal.signal(signal.SIGHUP, lambda *_: lifecycle.reloads.put(True))
    try:
        app = create_app(settings, lifecycle=lifecycle, clock=clock)
    except (BundleError, OSError) as error:
        raise StartError(str(error)) from error
    gc.collect()
    gc.freeze()  # what is here now lives as long as the process: no collection need look at it again
    allow_many_connections()
    with listening_sockets(settings) as sockets:
        Server(Config(app, settings), lifecycle).run(sockets=sockets)


def without_word(argv: Sequence[str] | None) -> list[str]:
    """Leave out the argument `serve`, with which SageMaker starts every container, unless a directory has that name."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    return arguments[1:] if arguments[:1] == ["serve"] and not Path("serve").is_dir() else arguments


def read_settings(options: ServeOptions) -> Settings:
    """Read the environment, and over it the options. Raises: SettingsError."""
    arguments: dict[str, Any] = {}  # by Settings' fields
    if options.bundles is not None:
        arguments = {"bundles": options.bundles, "models": ()}
    elif options.models:
        arguments = {"models": options.models}
    try:
        return Settings(**arguments)
    except ValidationError as error:
        raise SettingsError(explain(error)) from error


if __name__ == "__main__":
    sys.exit(main())
