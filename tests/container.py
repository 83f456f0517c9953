"""The image built by buildah, and run as an engine would run it, for tests marked `system`. All of it needs root.

There is no engine: `unshare` gives a container its own mounts, processes and network, the root is mounted read-only,
and command, user and environment are what the image says.
"""

import json
import os
import shutil
import signal
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

BASE = "localhost/python:3.11-slim-bookworm"
IMAGE = "localhost/halfdepth"
# Debian's own Python stands in for the public image, less what that one leaves out too.
PACKAGES = "ca-certificates,python3,python3-venv"
LEFT_OUT = ("var/cache/apt", "var/lib/apt/lists", "var/log", "usr/share/doc", "usr/share/locale", "usr/share/man")
START = """
mount --bind "$0" "$0"
mount --rbind /dev "$0/dev"
mount -t proc proc "$0/proc"
mount -o remount,bind,ro "$0"
if [ -n "$3" ]; then mount --bind -o ro "$3" "$0/bundles"; fi
ip link set lo up
exec chroot --userspec="$1" "$0" env -i --chdir="$2" "${@:4}"
"""


@dataclass(frozen=True)
class Image:
    """`config`: what the image says of how to run it; `root`: its files; `layers`: their digests, the base's first."""

    root: Path
    config: dict[str, Any]  # as image-spec has it
    layers: tuple[str, ...]

    @property
    def user(self) -> str:
        return f"{self.config['User']}:{self.config['User']}"

    def megabytes(self, *parts: str) -> float:
        """Of the files in these directories, or of all."""
        paths = [self.root / part for part in parts or (".",)]
        files = {path.lstat().st_ino: path.lstat() for each in paths for path in each.rglob("*")}
        return sum(file.st_size for file in files.values()) / 1e6


@dataclass(frozen=True)
class Container:
    """`pid`: of the image's command, seen from outside."""

    image: Image
    process: subprocess.Popen[str]
    pid: int

    def execute(self, *command: str, user: str | None = None) -> subprocess.CompletedProcess[str]:
        """A command inside, as `docker exec` would run it."""
        uid, gid = (user or self.image.user).split(":")
        enter = ["nsenter", f"--target={self.pid}", "--mount", "--net", "--pid", "--root", "--wd"]
        inside = [f"--setuid={uid}", f"--setgid={gid}", "env", "-i", *self.image.config["Env"], *command]
        return subprocess.run([*enter, *inside], capture_output=True, text=True, check=False)


@dataclass(frozen=True)
class Workshop:
    """Builds images on one base. `storage` are buildah's options that name its store."""

    storage: tuple[str, ...]

    def build(self, source: Path) -> Image:
        """The image of a source tree, from nothing but the base, with the times that a release gives its files."""
        # pip inside needs the certificates that this machine trusts.
        options = [
            "--isolation",
            "chroot",
            "--pull=never",
            "--volume",
            "/etc/ssl/certs:/etc/ssl/certs:ro",
            "--no-cache",
        ]
        arguments = ["--format", "docker", "--timestamp", "0", "--build-arg", f"BASE={BASE}", "--tag", IMAGE]
        self.buildah("bud", *options, *arguments, str(source))
        container = self.buildah("from", "--pull=never", IMAGE)
        found = json.loads(json.loads(self.buildah("inspect", "--type", "image", IMAGE))["Config"])
        return Image(Path(self.buildah("mount", container)), found["config"], tuple(found["rootfs"]["diff_ids"]))

    def buildah(self, *arguments: str) -> str:
        done = subprocess.run(["buildah", *self.storage, *arguments], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout.strip()


@contextmanager
def workshop(work: Path) -> Iterator[Workshop]:
    """`work` is an empty directory that needs 2 GB for an image, 1 GB for each further one, and is empty at the end."""
    shop = Workshop(("--storage-driver=vfs", "--root", str(work / "storage"), "--runroot", str(work / "run")))
    assert os.geteuid() == 0, "building and running an image needs root"
    try:
        scratch = shop.buildah("from", "scratch")
        shop.buildah("copy", "--quiet", scratch, str(debian(work / "debian")), "/")
        shop.buildah("commit", "--quiet", "--rm", scratch, BASE)
        yield shop
    finally:
        shutil.rmtree(work)
        work.mkdir()


def debian(path: Path) -> Path:
    command = ["debootstrap", "--variant=minbase", f"--include={PACKAGES}", "bookworm", str(path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    for part in LEFT_OUT:
        shutil.rmtree(path / part)
        (path / part).mkdir()
    return path


@contextmanager
def running(
    image: Image, bundles: Path | None = None, variables: Mapping[str, str] | None = None
) -> Iterator[Container]:
    """Its command as PID 1, until the block ends, with other bundles mounted over its own if there are any.

    `variables` go before those of the image, as with an engine.
    """
    config = image.config
    isolate = ["unshare", "--mount", "--pid", "--net", "--fork"]
    script = ["bash", "-euc", START, str(image.root), image.user, config["WorkingDir"], str(bundles or "")]
    changed = [f"{name}={value}" for name, value in (variables or {}).items()]
    command = [*isolate, *script, *config["Env"], *changed, *config["Entrypoint"]]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    assert process.stderr
    try:
        lines = []
        while (line := process.stderr.readline()) and "http://0.0.0.0:8000" not in line:
            lines.append(line)
        assert line, "".join(lines)
        yield Container(image, process, child_of(process))
    finally:
        if process.poll() is None:  # the child outlives `unshare`, which waits for it
            os.kill(child_of(process), signal.SIGKILL)
        process.communicate()


def child_of(process: subprocess.Popen[str]) -> int:
    return int(Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text())
