"""Damages a bundle's files while they are served, and while they are loaded."""

import os
import shutil
import signal
from pathlib import Path
from random import Random
from time import sleep

from loadtest.torture.fault import Fault
from loadtest.torture.target import Scene, until

TRUNCATIONS = 5


def reload(scene: Scene) -> list[str]:
    """Let the service look at its bundles, and wait. Returns: what failed."""
    before = scene.target.last_reload()
    scene.target.running.send_signal(signal.SIGHUP)
    until(lambda: scene.target.last_reload() != before, "the bundles were not looked at")
    return list(scene.target.last_reload()["errors"])


def files_of(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


def cut(folder: Path, random: Random) -> None:
    """Cut every file short, the manifest too, so that a reload looks at them."""
    for path in files_of(folder):
        os.truncate(path, random.randrange(path.stat().st_size))


def copy(source: Path, folder: Path, random: Random) -> None:
    """Write a bundle's files into those that are there, one by one in any order, and remove what it does not have."""
    wanted = {path.relative_to(source) for path in files_of(source)}
    for path in files_of(folder):
        if path.relative_to(folder) not in wanted:
            path.unlink()
    for name in random.sample(sorted(wanted), len(wanted)):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source / name, folder / name)


def keep(scene: Scene) -> Path:
    """Copy what is served aside, once for each fault."""
    folder = scene.target.folder / f"kept-{scene.target.served.name}"
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(scene.target.served, folder)
    return folder


def truncate(scene: Scene) -> None:
    """Cut a bundle that is served, and let it be loaded: it is refused, and what was loaded is served on."""
    random, kept = Random(scene.number), keep(scene)
    cut(scene.target.served, random)
    sleep(0.2)
    until(lambda: reload(scene), "a bundle that was cut short is not refused")
    copy(kept, scene.target.served, random)
    until(lambda: not reload(scene), "the bundle that is whole again is refused")


def truncate_while_reloading(scene: Scene) -> None:
    """Cut a bundle and make it whole again, several times, while the service is told to look at it."""
    random, kept = Random(scene.number), keep(scene)
    for _ in range(TRUNCATIONS):
        scene.target.running.send_signal(signal.SIGHUP)
        sleep(random.uniform(0, 0.1))
        cut(scene.target.served, random)
        scene.target.running.send_signal(signal.SIGHUP)
        sleep(random.uniform(0, 0.1))
        copy(kept, scene.target.served, random)
    until(lambda: not reload(scene), "the bundle that is whole again is refused")


def overwrite(scene: Scene) -> None:
    """Write another bundle's files over those that are served, while the service is told to look at them."""
    random = Random(scene.number)
    other = scene.target.folder / "other"
    if not other.exists():
        shutil.copytree(scene.target.other, other)
    kept = keep(scene)
    for path in random.sample(files_of(other), 3):
        shutil.copyfile(path, scene.target.served / path.relative_to(other))
        scene.target.running.send_signal(signal.SIGHUP)
        sleep(random.uniform(0, 0.1))
    copy(other, scene.target.served, random)
    until(lambda: not reload(scene), "the bundle that overwrote the other is refused")
    shutil.rmtree(other)
    kept.rename(other)  # the next overwrites it again


FAULTS = (
    Fault("a bundle is cut short while it is served", truncate),
    Fault("a bundle is cut short while it is loaded", truncate_while_reloading),
    Fault("a bundle is overwritten by another", overwrite, changes_answers=True),
)
