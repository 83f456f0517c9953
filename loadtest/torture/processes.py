"""Sends signals, takes the log away, sets the clock back, takes the port."""

import signal
import subprocess
from collections.abc import Callable
from time import sleep

from loadtest.process import LoadTestError, spawn
from loadtest.torture.fault import INFERENCE_FAILED, Fault
from loadtest.torture.sabotaged import MAX_RUN_MS
from loadtest.torture.target import WAIT_S, Scene, until

HOLD_S = 1.0  # how long a fault lasts that ends only when we end it
HOUR_S = 3600
TAKEN = 3  # the exit status where the address is taken


def end_by(number: signal.Signals, expected: int) -> Callable[[Scene], None]:
    """End the process by a signal, and start it again."""

    def do(scene: Scene) -> None:
        scene.target.running.send_signal(number)
        if (status := scene.target.ended()) != expected:
            raise LoadTestError(f"the service ended with {status} by {number.name}")
        scene.target.start()

    return do


def hang_up(scene: Scene) -> None:
    """Ask for a reload, of which nothing has changed, ten times."""
    before = scene.target.last_reload()
    for _ in range(10):
        scene.target.running.send_signal(signal.SIGHUP)
    until(lambda: scene.target.last_reload() != before, "the bundles were not looked at")


def stop_and_go_on(scene: Scene) -> None:
    """Stop the whole process for longer than a run may take: no run hangs, and nothing may be ended for it."""
    scene.target.running.send_signal(signal.SIGSTOP)
    sleep(2.5 * MAX_RUN_MS / 1e3)
    scene.target.running.send_signal(signal.SIGCONT)


def redirect(to: str) -> Callable[[Scene], None]:
    """Let standard error be something that takes no byte, for a while."""

    def do(scene: Scene) -> None:
        scene.target.order(f"stderr {to}")
        sleep(HOLD_S)
        scene.target.order("stderr back")

    return do


def start_without_stderr(scene: Scene) -> None:
    """Start the service anew with standard output and error closed; later it gets them back."""
    for has_stderr in (False, True):
        scene.target.stop()
        scene.target.start(has_stderr=has_stderr)
        right = scene.load.tally.right
        until(lambda right=right: scene.load.tally.right > right, "no answer")  # type: ignore[misc]


def set_clock_back(scene: Scene) -> None:
    """Set the time of day back by an hour, and forward again."""
    for offset_s in (-HOUR_S, 0):
        scene.target.order(f"clock {offset_s}")
        sleep(HOLD_S)


def start_another(scene: Scene) -> None:
    """Start a second service on the same port: it ends in one line, and the first serves on."""
    target = scene.target
    with spawn(BUNDLES=str(target.served), MODELS="", PORT=str(target.port), THREADS="1") as other:
        try:
            _, error = other.communicate(timeout=WAIT_S)
        except subprocess.TimeoutExpired as late:
            other.kill()
            raise LoadTestError("two services share a port") from late
    if other.returncode != TAKEN or "Traceback" in error:
        raise LoadTestError(f"the second service ended with {other.returncode}: {error[-200:]}")


FAULTS = (
    Fault("SIGTERM", end_by(signal.SIGTERM, 0), closes=True, restarts=True),
    Fault("SIGKILL", end_by(signal.SIGKILL, -signal.SIGKILL), closes=True, restarts=True),
    Fault("SIGHUP, ten at once", hang_up),
    Fault("the process is stopped for 5 s", stop_and_go_on, allowed=INFERENCE_FAILED),
    Fault("a full disk for the log", redirect("full")),
    Fault("nobody reads the log's pipe", redirect("broken")),
    Fault("started without stdout and stderr", start_without_stderr, closes=True, restarts=True),
    Fault("the clock is set back by an hour", set_clock_back),
    Fault("a second process on the port", start_another),
)
