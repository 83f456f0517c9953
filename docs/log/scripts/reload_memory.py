"""Prints the resident memory of a service whose qa bundle is overwritten and reloaded eight times.

From the root of the repository: python -m docs.log.scripts.reload_memory. Variables of the environment reach the
service: MALLOC_MMAP_THRESHOLD_=33554432 gives about what glibc does by itself after a start.
"""

import shutil
import signal
import subprocess
import sys
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

from loadtest.process import free_port, python_environment, python_module, resident_mb, wait_until_ready
from loadtest.torture.target import until
from models.tasks.remote.client import Client

BUNDLES, SERVED, OTHERS = Path("bundles"), "qa", ("classify", "similarity", "rerank")
RELOADS = 8
WORDS = (5, 60, 200, 380)


def main() -> None:
    with TemporaryDirectory() as scratch:
        for name in (SERVED, *OTHERS):
            shutil.copytree(BUNDLES / name, Path(scratch, name))
        port = free_port()
        variables = {"HALFDEPTH_BUNDLES": scratch, "HALFDEPTH_PORT": str(port), "HALFDEPTH_THREADS": "2"}
        process = subprocess.Popen(
            python_module("service"), env=python_environment(**variables), stderr=subprocess.DEVNULL
        )
        url = f"http://127.0.0.1:{port}"
        try:
            wait_until_ready(url, process)
            say("start", process.pid)
            ask(url)
            say("after questions", process.pid)
            for number in range(RELOADS):
                name = ("qa-small", "qa")[number % 2]
                before = last_reload(url)
                shutil.copytree(BUNDLES / name, Path(scratch, SERVED), dirs_exist_ok=True)
                process.send_signal(signal.SIGHUP)
                until(partial(has_reloaded, url, before), "the bundles were not looked at")
                ask(url)
                say(f"reload {number + 1}, {name}", process.pid)
        finally:
            process.terminate()
            process.wait()


def ask(url: str) -> None:
    for words in WORDS:
        Client(url).post("/qa", {"question": "who did it?", "context": "The old man did it again. " * (words // 6 + 1)})


def has_reloaded(url: str, before: object) -> bool:
    return last_reload(url) != before


def last_reload(url: str) -> object:
    return Client(url).get("/info")["last_reload"]


def say(what: str, pid: int) -> None:
    sys.stdout.write(f"{what}: {resident_mb(pid):.0f} MB\n")


if __name__ == "__main__":
    main()
