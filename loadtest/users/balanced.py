"""Starts two replicas behind nginx with `deploy/nginx.conf`.

Each replica is on a core of its own where there are two. Only a copy of the configuration is changed: ports, the access
log, and a header that says which replica answered.
"""

import os
import shutil
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from urllib.parse import urlsplit

from loadtest.process import ROOT, LoadTestError, free_port, pinned, service, wait_until_ready

CONFIGURATION, ADDRESSES = ROOT / "deploy" / "nginx.conf", ROOT / "deploy" / "replicas.conf"
REPLICAS = ("server 127.0.0.1:8001", "server 127.0.0.1:8002")
LISTEN, ACCESS_LOG, PASS = "listen 8080;", "access_log /dev/stdout replicas;", "proxy_pass http://halfdepth;"
START_S = 30


@contextmanager
def balanced(folder: Path) -> Iterator[str]:
    """Yield nginx's URL, until the block ends. `folder` gets the logs.

    Raises: LoadTestError if nginx is not installed, or something does not start.
    """
    nginx = shutil.which("nginx", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin")
    if nginx is None:
        raise LoadTestError("nginx is not installed; on Debian: apt-get install nginx-light")
    cores = sorted(os.sched_getaffinity(0))
    with ExitStack() as stack:
        urls = []
        for number in range(len(REPLICAS)):
            with pinned(cores[number % len(cores)]):
                replica = service(folder / f"replica-{number + 1}.log", HOST="127.0.0.1", THREADS="1")
                urls.append(stack.enter_context(replica).url)
        port = free_port()
        text = configuration(CONFIGURATION.read_text(encoding="utf-8"), port, folder / "access.log")
        file = folder / CONFIGURATION.name
        file.write_text(text, encoding="utf-8")
        text = addresses(ADDRESSES.read_text(encoding="utf-8"), urls)
        (folder / ADDRESSES.name).write_text(text, encoding="utf-8")
        directives = f"daemon off; pid {folder}/nginx.pid; error_log {folder}/nginx-error.log;"
        command = [nginx, "-p", str(folder), "-c", str(file), "-g", directives]
        with (folder / "nginx.log").open("w") as log:
            process = subprocess.Popen(command, stdout=log, stderr=log)
        try:
            _wait(process, f"http://127.0.0.1:{port}", folder / "nginx.log")
            yield f"http://127.0.0.1:{port}"
        finally:
            process.terminate()
            process.wait()


def _wait(process: "subprocess.Popen[bytes]", url: str, log: Path) -> None:
    try:
        wait_until_ready(url, process, START_S)
    except LoadTestError as error:
        raise LoadTestError(f"nginx does not run; {log} says why") from error


def configuration(text: str, port: int, access_log: Path) -> str:
    """Put this run's port and log into nginx.conf, and the header `X-Replica` into its answers.

    Raises: LoadTestError if the file no longer has what is replaced.
    """
    log, header = f"access_log {access_log} replicas;", f"{PASS} add_header X-Replica $upstream_addr always;"
    return _replaced(CONFIGURATION, text, {LISTEN: f"listen 127.0.0.1:{port};", ACCESS_LOG: log, PASS: header})


def addresses(text: str, urls: Sequence[str]) -> str:
    """Put this run's replicas into replicas.conf. Raises: LoadTestError, as above."""
    servers = (f"server {urlsplit(url).netloc}" for url in urls)
    return _replaced(ADDRESSES, text, dict(zip(REPLICAS, servers, strict=True)))


def _replaced(file: Path, text: str, replacements: Mapping[str, str]) -> str:
    for written, ours in replacements.items():
        if text.count(written) != 1:
            raise LoadTestError(f"{file} has no line {written!r} of its own, which --through-nginx changes")
        text = text.replace(written, ours)
    return text
