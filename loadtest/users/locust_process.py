"""Runs Locust's processes: alone, as a master with workers, or as a worker."""

import json
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil
from pathlib import Path
from time import monotonic

from tqdm import tqdm

from loadtest.process import ROOT, LoadTestError, free_port, python_environment, python_module
from loadtest.users.measured import Measured, read_measured
from loadtest.users.plan import Plan
from models.tasks.remote.client import KEY_VARIABLE

FOLDER = Path(__file__).parent
CLOSED, OPEN, SHAPED = FOLDER / "locustfile.py", FOLDER / "openloop.py", FOLDER / "shaped.py"
LAST_ANSWERS_S = 20  # beyond a request's timeout, for what Locust does until it starts users, and at its end
POLL_S = 0.2
BAR = "{l_bar}{bar}| {n:.0f}/{total_fmt} s"


@dataclass(frozen=True, slots=True)
class Processes:
    """Says how many processes send, whether those are on other machines, and the port by which they find the master."""

    workers: int
    is_master: bool
    port: int

    def flags(self) -> list[str]:
        if self.is_master:
            return ["--master", "--master-bind-port", str(self.port), "--expect-workers", str(self.workers)]
        if self.workers == 1:
            return []
        port = str(free_port())
        here = ["--master-bind-host", "127.0.0.1", "--master-bind-port", port, "--master-port", port]
        return ["--processes", str(self.workers), *here]


def run_locust(plan: Plan, url: str, key: str | None, out: Path, processes: Processes) -> Measured:
    """Load, with a bar of the seconds; reports and Locust's log go to `out`.

    Raises: LoadTestError if Locust ends without figures.
    """
    plan_file, figures = out / "plan.json", out / "measured.json"
    plan_file.write_text(plan.text(), encoding="utf-8")
    figures.unlink(missing_ok=True)
    is_shaped = plan.rate is None and plan.shape != "steady"
    files = [OPEN] if plan.rate else [CLOSED, *([SHAPED] if is_shaped else [])]
    users = plan.workers if plan.rate else plan.users
    command = [*python_module("locust"), "--locustfile", ",".join(map(str, files)), "--headless", "--host", url]
    command += ["--html", str(out / "report.html"), "--csv", str(out / "locust"), "--only-summary"]
    command += ["--exit-code-on-error", "0"]
    command += ["--plan", str(plan_file), "--measured", str(figures), *processes.flags()]
    if not is_shaped:
        command += ["--users", str(users), "--spawn-rate", str(users)]
    # Its processes end by themselves (course.py); this is for a worker that broke off.
    command += ["--run-time", f"{ceil(plan.seconds + plan.timeout_s + LAST_ANSWERS_S)}s"]
    log = out / "locust.log"
    status = _run(command, key, log, plan.seconds)
    if status or not figures.exists():
        raise LoadTestError(f"Locust ended with status {status}; {log} says why")
    content = json.loads(figures.read_text(encoding="utf-8"))
    for scratch in (plan_file, figures):
        scratch.unlink()
    return read_measured(content)


def run_worker(host: str, port: int, key: str | None, out: Path) -> None:
    """Send for a master on another machine until it is done. Raises: LoadTestError."""
    files = f"{CLOSED},{OPEN}"
    command = [*python_module("locust"), "--locustfile", files, "--worker", "--master-host", host]
    log = out / "locust.log"
    if status := _run([*command, "--master-port", str(port)], key, log, None):
        raise LoadTestError(f"the worker of {host} ended with status {status}; {log} says why")


def _run(command: Sequence[str], key: str | None, log: Path, seconds: float | None) -> int:
    """Return the exit status. Locust is ended with this process."""
    environment = python_environment(**({} if key is None else {KEY_VARIABLE: key}))
    with (
        log.open("w") as output,
        tqdm(total=seconds, unit="s", bar_format="{l_bar}{bar}| {n:.0f}/{total_fmt} s") as bar,
    ):
        # Locust imports from the directory that it runs in before anything else, so it runs in ours.
        process = subprocess.Popen(command, env=environment, cwd=ROOT, stdout=output, stderr=output)
        began = monotonic()
        try:
            while process.poll() is None:
                try:
                    process.wait(POLL_S)
                except subprocess.TimeoutExpired:
                    elapsed_s = monotonic() - began
                    bar.update((elapsed_s if seconds is None else min(elapsed_s, seconds)) - bar.n)
        finally:
            if process.poll() is None:
                process.terminate()
                process.wait()
    return process.returncode
