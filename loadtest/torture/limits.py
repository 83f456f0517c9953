"""Takes from the service what the machine grants: memory, descriptors, cores, time of its clients."""

import os
import resource
import signal
import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from random import Random
from time import monotonic, sleep

from loadtest.cgroups import cgroup
from loadtest.connection import Connection, post
from loadtest.process import LoadTestError, address_space
from loadtest.slow import SlowClients
from loadtest.torture.fault import INFERENCE_FAILED, Fault
from loadtest.torture.processes import HOLD_S
from loadtest.torture.target import Scene, until
from models.tasks.remote.address import DEFAULT_HOST

ROOM_BYTES = (2**20, 2**26)  # of the address space, beyond what is taken
TEXTS = 5
SENTENCE = "Ada Lovelace wrote the first program in 1843, for a machine that was never built. "
FREE_DESCRIPTORS = 5
SILENT, SLOW = 50, 100  # clients
QUOTA, PERIOD_US = 0.5, 100_000


@contextmanager
def limited(pid: int, kind: int, most: int) -> Iterator[None]:
    """Lower the soft limit of a process until the end of the block."""
    soft, hard = resource.prlimit(pid, kind)
    resource.prlimit(pid, kind, (most, hard))
    try:
        yield
    finally:
        with suppress(ProcessLookupError):  # it may have ended by the limit
            resource.prlimit(pid, kind, (soft, hard))


def take_memory(scene: Scene) -> None:
    """Leave the process little room to grow, and send it texts of 20 KB to 1 MB, which may need more.

    Where Python or onnxruntime finds no memory the request fails. Where the tokenizer does, the process is aborted, for
    Rust does so; it is started again.
    """
    random, pid = Random(scene.number), scene.target.pid
    with limited(pid, resource.RLIMIT_AS, address_space(pid) + random.randint(*ROOM_BYTES)):
        for _ in range(TEXTS):
            text = SENTENCE * (random.randint(20_000, 1_000_000) // len(SENTENCE))
            request = post("/qa", {"question": "Who wrote it?", "context": text})
            try:
                with Connection(scene.target.url) as connection:
                    scene.notes[f"{connection.ask(request).status} to a long text"] += 1
            except OSError:
                scene.notes["no answer to a long text"] += 1
        sleep(HOLD_S)
    if scene.target.running.poll() is not None:
        if (status := scene.target.ended()) != -signal.SIGABRT:
            raise LoadTestError(f"the service ended with {status}")
        scene.notes["the process was aborted"] += 1
        scene.target.start()


def take_descriptors(scene: Scene) -> None:
    """Let the process open few more files, and open many connections to it."""
    pid = scene.target.pid
    taken = len(os.listdir(f"/proc/{pid}/fd"))
    with limited(pid, resource.RLIMIT_NOFILE, taken + FREE_DESCRIPTORS), ExitStack() as opened:
        for _ in range(SILENT):
            opened.enter_context(socket.create_connection((DEFAULT_HOST, scene.target.port), timeout=10))
        sleep(HOLD_S)


def take_cores(scene: Scene) -> None:
    """Leave the process one core, by affinity."""
    threads = [int(thread) for thread in os.listdir(f"/proc/{scene.target.pid}/task")]
    cores = os.sched_getaffinity(scene.target.pid)
    for thread in threads:
        os.sched_setaffinity(thread, {min(cores)})
    sleep(HOLD_S)
    for thread in threads:
        os.sched_setaffinity(thread, cores)


def take_time(scene: Scene) -> None:
    """Leave the process half a core, by a quota; where no cgroup can be made, by stopping it half of the time."""
    quota = str(int(QUOTA * PERIOD_US))
    limits = {"version_1": ("cpu.cfs_quota_us", quota), "version_2": ("cpu.max", f"{quota} {PERIOD_US}")}
    with cgroup(scene.target.pid, **limits) as is_made:
        if is_made:
            scene.notes["a quota of a cgroup"] += 1
            sleep(HOLD_S)
            return
    scene.notes["stopped for half of the time, since no cgroup can be made"] += 1
    end = monotonic() + HOLD_S
    while monotonic() < end:
        for number in (signal.SIGSTOP, signal.SIGCONT):
            scene.target.running.send_signal(number)
            sleep(PERIOD_US / 2e6)


def be_slow(scene: Scene) -> None:
    """Be many clients that send a byte a second, until the service has cut them off."""
    with SlowClients(DEFAULT_HOST, scene.target.port, SLOW) as clients:
        until(lambda: clients.opened > SLOW, "no slow client was cut off")


FAULTS = (
    Fault("memory near its limit", take_memory, allowed=INFERENCE_FAILED, closes=True, restarts=True, asks=True),
    Fault("descriptors exhausted", take_descriptors, closes=True),
    Fault("one core", take_cores),
    Fault("a quota of half a core", take_time, allowed=INFERENCE_FAILED),
    Fault("clients that send a byte a second", be_slow),
)
