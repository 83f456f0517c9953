"""Load a service with Locust, headless; HTML, CSV and the service's log stay in a directory."""

import argparse
import subprocess
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

from loadtest.process import LoadTestError, service
from loadtest.routes import read_routes

LOCUSTFILE = Path(__file__).with_name("locustfile.py")


def check(url: str) -> None:
    """Raises: LoadTestError if nothing can be asked there, which Locust would tell of every user."""
    try:
        routes = read_routes(url)
    except OSError as error:
        raise LoadTestError(f"{url}: {error}; start the service with `make serve`") from error
    if not routes:
        raise LoadTestError(f"{url} has no bundle; add one to the directory that it serves")


def main(argv: Sequence[str] | None = None) -> int:
    """Exit status: Locust's own, which is 1 if a request failed or was refused; 2 where nothing could be loaded."""
    parser = argparse.ArgumentParser(prog="python -m loadtest", description=__doc__)
    parser.add_argument("--url", help="a running service; without it one is started from this directory")
    parser.add_argument("--seconds", type=int, default=60, help="how long (default: %(default)s)")
    parser.add_argument(
        "--users", type=int, default=8, help="over all routes, each with 0.1 s between requests (default: %(default)s)"
    )
    parser.add_argument("--out", type=Path, default=Path("runs/loadtest"), help="directory (default: %(default)s)")
    arguments = parser.parse_args(argv)
    out: Path = arguments.out
    out.mkdir(parents=True, exist_ok=True)
    try:
        with ExitStack() as running:
            url = arguments.url or running.enter_context(service(out / "service.log")).url
            pace = ["--users", str(arguments.users), "--spawn-rate", str(arguments.users)]
            reports = ["--html", str(out / "report.html"), "--csv", str(out / "locust"), "--only-summary"]
            headless = ["--headless", "--run-time", f"{arguments.seconds}s", "--host", url]
            command = [sys.executable, "-m", "locust", "--locustfile", str(LOCUSTFILE), *headless, *pace, *reports]
            check(url)
            return subprocess.run(command, check=False).returncode
    except LoadTestError as error:
        sys.stderr.write(f"python -m loadtest: {error}\n")
        return 2


if __name__ == "__main__":
    sys.exit(main())
