"""Makes what peers need: a virtual environment for each, and the models in place of a bundle."""

import re
import subprocess
import sys
from pathlib import Path

from loadtest.peers.registry import BUNDLE, Model, Peer
from loadtest.process import LoadTestError, python_environment, python_module
from models.tasks.bundle import Bundle

MARK = ".requirements"  # what was installed; an environment without it is not complete
STOCK_MODELS = "export.bench.stock_models"
ERROR = re.compile(r"\b(?:\w+Error|ERROR|Exception): ?\S")
DIRECTORIES: dict[Model, str] = {"stock int8": "stock-int8", "fp32": "fp32"}
INSTALL = "halfdepth loadtest peers --install"


def python_of(peer: Peer, root: Path) -> Path:
    """Raises: LoadTestError if the peer's environment is not there, or is one for other versions."""
    directory = root / peer.name
    failure = root / f"{peer.name}.failure"
    if failure.exists():
        raise LoadTestError(f"does not install: {failure.read_text()}")
    if not is_installed(peer, root):
        raise LoadTestError(f"not installed; run `{INSTALL} --only {peer.name}`")
    return directory / "bin" / "python"


def is_installed(peer: Peer, root: Path) -> bool:
    mark = root / peer.name / MARK
    return mark.exists() and mark.read_text() == _requirements(peer)


def install(peer: Peer, root: Path, seconds: float) -> str | None:
    """Make the environment anew, for so long at most. Returns: why it failed, if it did; its row will say so."""
    directory, log, failure = root / peer.name, root / f"{peer.name}.log", root / f"{peer.name}.failure"
    root.mkdir(parents=True, exist_ok=True)
    failure.unlink(missing_ok=True)
    pip = [str(directory / "bin" / "python"), "-m", "pip", "install", "--disable-pip-version-check", "--quiet"]
    try:
        with log.open("w") as output:
            for command in ([sys.executable, "-m", "venv", "--clear", str(directory)], [*pip, *peer.requirements]):
                subprocess.run(command, stdout=output, stderr=output, check=True, timeout=seconds)
    except subprocess.TimeoutExpired:
        reason = f"its installation took more than {seconds:g} s"
    except subprocess.CalledProcessError:
        reason = last_line(log)
    else:
        (directory / MARK).write_text(_requirements(peer))
        return None
    failure.write_text(reason)
    return reason


def model_path(model: Model, bundle: Bundle, root: Path) -> Path:
    """Raises: LoadTestError if it is not there yet."""
    if model == BUNDLE:
        return bundle.path
    path = _models(bundle, root) / DIRECTORIES[model]
    if not path.is_dir():
        raise LoadTestError(f"the model is not there yet; run `{INSTALL}`")
    return path


def make_models(bundle: Bundle, root: Path) -> None:
    """Write the models in place of the bundle, once: its weights in PyTorch, and optimum's int8 export of them.

    Raises: LoadTestError.
    """
    out = _models(bundle, root)
    if all((out / name).is_dir() for name in DIRECTORIES.values()):
        return
    out.mkdir(parents=True, exist_ok=True)
    command = [*python_module(STOCK_MODELS), str(bundle.path), "--out", str(out)]
    log = out / "log"
    with log.open("w") as output:
        done = subprocess.run(command, env=python_environment(), stdout=output, stderr=output, check=False)
    if done.returncode:
        raise LoadTestError(f"the models in place of {bundle.path} cannot be made: {last_line(log)}")


def last_line(log: Path) -> str:
    """Return the last line of a log that tells an error, or says anything, cut to a length that fits into a table."""
    lines = [line.strip() for line in log.read_text(errors="replace").splitlines() if line.strip()]
    errors = [line for line in lines if ERROR.search(line)]
    return next(reversed(errors or lines), "it said nothing")[:300]


def _models(bundle: Bundle, root: Path) -> Path:
    return root / "models" / f"{bundle.task}-{bundle.revision}"


def _requirements(peer: Peer) -> str:
    return "\n".join(peer.requirements) + "\n"
