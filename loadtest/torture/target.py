"""Starts the service that faults are done to, and starts it again at the same address."""

import os
import shutil
import socket
import subprocess
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from time import monotonic, sleep
from typing import Any

from loadtest.process import (
    LoadTestError,
    free_port,
    is_ready,
    python_environment,
    python_module,
    wait_until_ready,
)
from loadtest.torture.load import Load
from loadtest.torture.sabotaged import CONTROL_FILE
from loadtest.torture.state import Holdings
from models.tasks.bundle import bundle_paths, load_bundle
from models.tasks.remote.address import DEFAULT_HOST, PREFIX
from models.tasks.remote.client import Client

WAIT_S, POLL_S = 60.0, 0.02
READ_TIMEOUT_S = 2
SETTINGS = {
    "MODELS": "",
    "UDS": "",
    "LOG_FORMAT": "json",
    "DRAIN_SECONDS": "0.3",
    "READ_TIMEOUT_SECONDS": str(READ_TIMEOUT_S),
    "THREADS": str(min(len(os.sched_getaffinity(0)), 4)),  # a start that need not measure is a quick one
}


@dataclass(slots=True)
class Target:
    """The service, and its bundles: one for each task, copied to `folder`, so that they can be damaged.

    `other`: another bundle for the task of the bundle `served`, with which that can be overwritten.
    """

    folder: Path
    served: Path
    other: Path
    port: int = field(default_factory=free_port)
    process: "subprocess.Popen[str] | None" = None

    @classmethod
    def of(cls, source: Path, folder: Path) -> "Target":
        """Copy bundles. Raises: LoadTestError, BundleError."""
        by_task: dict[str, list[Path]] = {}
        for path in bundle_paths(source):
            by_task.setdefault(load_bundle(path).task, []).append(path)
        pairs = [sorted(paths, key=lambda path: path.name) for paths in by_task.values() if len(paths) > 1]
        if not pairs:
            raise LoadTestError(f"{source} needs two bundles of one task, one to overwrite the other; add one")
        for paths in by_task.values():
            first = min(paths, key=lambda path: path.name)
            shutil.copytree(first, folder / "bundles" / first.name)
        return cls(folder, folder / "bundles" / pairs[0][0].name, pairs[0][1])

    @property
    def url(self) -> str:
        return f"http://{DEFAULT_HOST}:{self.port}"

    @property
    def log(self) -> Path:
        return self.folder / "log"

    @property
    def running(self) -> "subprocess.Popen[str]":
        assert self.process is not None
        return self.process

    @property
    def pid(self) -> int:
        return self.running.pid

    def start(self, *, has_stderr: bool = True) -> None:
        """Start the service and wait until it is ready. Raises: LoadTestError."""
        control = self.folder / "control"
        control.unlink(missing_ok=True)
        settings = SETTINGS | {"BUNDLES": str(self.folder / "bundles"), "PORT": str(self.port)}
        variables = {f"{PREFIX}{name}": value for name, value in settings.items()} | {CONTROL_FILE: str(control)}
        command = python_module("loadtest.torture.sabotaged")
        if not has_stderr:  # the saboteur's own files would get the numbers of the streams
            command = ["sh", "-c", 'exec "$@" <&- >&- 2>&-', "sh", *python_module("service")]
        with self.log.open("a") as log:
            self.process = subprocess.Popen(
                command, env=python_environment(**variables), stdout=log, stderr=log, text=True
            )
        wait_until_ready(self.url, self.process)

    def ended(self) -> int:
        """Wait for the end of the process. Returns: its exit status. Raises: LoadTestError."""
        try:
            return self.running.wait(WAIT_S)
        except subprocess.TimeoutExpired as error:
            raise LoadTestError("the service does not end") from error

    def stop(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait()

    def order(self, text: str) -> None:
        """Tell the saboteur what to do."""
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as control:
            control.sendto(text.encode(), str(self.folder / "control"))

    def logged(self, text: str) -> int:
        """Count the lines of the log with this text."""
        return self.log.read_text(encoding="utf-8", errors="replace").count(text)

    def last_reload(self) -> Any:  # a part of /info
        return Client(self.url).get("/info")["last_reload"]

    def holdings(self) -> Holdings:
        return Holdings.of(self.pid)

    def is_ready(self) -> bool:
        return is_ready(self.url)


@dataclass(frozen=True, slots=True)
class Scene:
    """Where a fault is done: the service, the load that runs, and the number of the fault, by which it may vary."""

    target: Target
    load: Load
    number: int
    notes: Counter[str]  # what the record should say, and how often


def until(condition: Callable[[], object], failure: str, seconds: float = WAIT_S) -> None:
    """Raises: LoadTestError if the condition does not come true."""
    end = monotonic() + seconds
    while not condition():
        if monotonic() > end:
            raise LoadTestError(failure)
        sleep(POLL_S)
