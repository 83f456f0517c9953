"""`python -m service`: serve the bundles over HTTP until SIGTERM or Ctrl-C."""

import argparse
import gc
import logging
import signal
import sys

import uvicorn
from pydantic import ValidationError

from models.tasks.bundle import BundleError
from service.app import create_app
from service.logs import configure_logging
from service.settings import Settings, explain, help_text

logger = logging.getLogger("service")


def main() -> None:
    """Exit status: 0 after a signal, 1 if the service cannot start, 2 on a wrong setting or argument."""
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
    try:
        app = create_app(settings)
    except BundleError as error:
        parser.exit(1, f"{parser.prog}: {error}\n")
    gc.collect()
    gc.freeze()  # what is here now lives as long as the process: no collection need look at it again
    # uvicorn raises the signal again once all is answered; that must be a good end and not a kill.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    uvicorn.run(app, host=settings.host, port=settings.port, log_config=None, access_log=False, server_header=False)


if __name__ == "__main__":
    main()
