"""Runs the service and breaks it from within on command; `halfdepth loadtest faults` starts it."""

import ctypes
import importlib
import os
import runpy
import socket
import threading
import time
from collections.abc import Callable
from typing import Any

from models.tasks.session import OnnxSession

CONTROL_FILE = "LOADTEST_CONTROL_FILE"  # a Unix socket that takes one order a datagram: `stuck inline`
MAX_RUN_MS = 2_000.0  # instead of the service's 10 s, so that a run that hangs is found five times as soon
STUCK_S = 600.0  # at most, unless it is released: longer than the service waits
INLINE, WORKER = "inline", "worker"  # where a run is; a worker's thread has that name


class Saboteur:
    """Takes orders on a thread of its own. Its lock guards `_orders`: what the next run does, by its place."""

    def __init__(self) -> None:
        self._orders: dict[str, str] = {}
        self._lock = threading.Lock()
        self._released = threading.Event()
        self._stderr = os.dup(2)  # what it is given back
        self._time, self._offset_s = time.time, 0.0

    def listen(self, path: str) -> None:
        control = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        control.bind(path)
        threading.Thread(target=self._take_orders, args=(control,), name="saboteur", daemon=True).start()

    def _take_orders(self, control: socket.socket) -> None:
        while True:
            name, _, argument = control.recv(100).decode().partition(" ")
            if name == "kill":
                kill(argument)
            elif name == "stderr":
                self._redirect(argument)
            elif name == "clock":
                self._offset_s = float(argument)
            elif name == "release":
                self._released.set()
            else:
                self._released.clear()
                with self._lock:
                    self._orders[argument] = name

    def time(self) -> float:
        """Tell the time of day, as it is set."""
        return self._time() + self._offset_s

    def before_run(self, cancellation: Any) -> None:  # a Cancellation, where the engine runs
        """Do what is ordered for a run here. Raises: RuntimeError."""
        is_inline = threading.current_thread() is threading.main_thread()
        with self._lock:
            order = self._orders.pop(INLINE if is_inline else threading.current_thread().name, None)
        if order == "hang":
            while not cancellation.options.terminate:  # as onnxruntime looks at it between two operators
                time.sleep(0.001)
        elif order == "stuck":
            self._released.wait(STUCK_S)
        if order:
            raise RuntimeError(f"sabotaged: {order}")

    def _redirect(self, target: str) -> None:
        """Let standard error be the file that it was, a full disk, or a pipe that nobody reads any more."""
        if target == "full":
            replacement = os.open("/dev/full", os.O_WRONLY)
        elif target == "broken":
            reader, replacement = os.pipe()
            os.close(reader)
        else:
            replacement = os.dup(self._stderr)
        os.dup2(replacement, 2)
        os.close(replacement)


def kill(name: str) -> None:
    """Throw SystemExit into every thread of this name, which meets it when it next runs Python."""
    for thread in threading.enumerate():
        if thread.name == name:
            ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread.ident or 0), ctypes.py_object(SystemExit))


def sabotaged(run: Callable[..., Any], saboteur: Saboteur) -> Callable[..., Any]:  # OnnxSession.run
    def call(session: OnnxSession, window: Any, cancellation: Any = None, **options: Any) -> Any:
        saboteur.before_run(cancellation)
        return run(session, window, cancellation, **options)

    return call


if __name__ == "__main__":
    saboteur = Saboteur()
    OnnxSession.run = sabotaged(OnnxSession.run, saboteur)  # type: ignore[method-assign]
    policy = importlib.import_module("service.engine.policy")
    vars(policy)["MAX_RUN_MS"] = MAX_RUN_MS  # before the engine's modules read it
    time.time = saboteur.time
    saboteur.listen(os.environ[CONTROL_FILE])
    runpy.run_module("service", run_name="__main__", alter_sys=True)
