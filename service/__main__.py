"""`python -m service`: serve the bundles over HTTP until SIGTERM or Ctrl-C."""

import argparse
import gc
import logging
import signal
import sys

from pydantic import ValidationError

from models.tasks.directory import BundleError
from service.app import create_app
from service.http.gate import Lifecycle
from service.http.protocol import Config
from service.http.server import Server, allow_many_connections
from service.settings import Settings, explain, help_text
from service.telemetry.logs import configure_logging

logger = logging.getLogger("service")


def main() -> None:
    """Exit status: 0 after a signal, 1 if the service cannot start, 2 on a wrong setting or argument, 3 if the address
    is taken (uvicorn's); after a second signal 128 and its number.
    """
    parser = argparse.ArgumentParser(
        prog="python -m service",
        description="Serve question answering, classification and similarity over HTTP: the tasks that have a bundle. "
        "Everything is set by environment variables.",
        epilog=help_text(),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.parse_args()
    try:
        settings = Settings()
    except ValidationError as error:
        parser.exit(2, f"{parser.prog}: {explain(error)}\n")
    configure_logging(settings.log_format)
    logger.info("settings", extra={"data": settings.model_dump(mode="json")})
    for number in (signal.SIGINT, signal.SIGTERM):  # until the server has its own handlers
        signal.signal(number, lambda *_: sys.exit(0))
    lifecycle = Lifecycle()
    try:
        app = create_app(settings, lifecycle=lifecycle)
    except BundleError as error:
        parser.exit(1, f"{parser.prog}: {error}\n")
    gc.collect()
    gc.freeze()  # what is here now lives as long as the process: no collection need look at it again
    allow_many_connections()
    Server(Config(app, settings), lifecycle).run()


if __name__ == "__main__":
    main()
