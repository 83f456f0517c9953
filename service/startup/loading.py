"""Makes an engine of the bundles that the settings name, and looks later which of them have changed."""

import hashlib
import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from models.tasks.bundle import MANIFEST, Bundle, bundle_paths, load_bundle, sha256_of
from models.tasks.directory.files import BundleError
from models.tasks.directory.overrides import OVERRIDES
from service.engine.engine import Engine
from service.engine.model import Model
from service.settings import Settings
from service.startup.clock import StartClock
from service.startup.hub import is_hub_name, load_from_hub
from service.startup.opening import Loader

logger = logging.getLogger(__name__)

UNEXPECTED = "it cannot be loaded; the log has the reason"


@dataclass(frozen=True, slots=True)
class Change:
    """What became of a bundle that had changed. `task` is empty where that was never known."""

    task: str
    model: str
    outcome: Literal["loaded", "removed", "failed"]
    error: str | None = None


@dataclass(frozen=True, slots=True)
class Stocked:
    """A model, and what its files were when it was loaded."""

    fingerprint: str
    model: Model


class Stock:
    """Holds the models that are served, in groups: one for each name of HALFDEPTH_MODELS, or one of HALFDEPTH_BUNDLES.

    What is loaded stays as it is until `reload`, which one thread calls at a time.
    """

    def __init__(self, settings: Settings, clock: StartClock | None = None) -> None:
        self._names = settings.models or (str(settings.bundles),)
        self._by_name = bool(settings.models)
        self._clock = clock or StartClock()
        self._loader = Loader(settings, self._clock)
        self._groups: list[dict[Path, Stocked]] = []

    def engine(self, max_queue_ms: float) -> Engine:
        """Load every bundle of the directory, or the models that are named instead.

        Raises: BundleError if a bundle is damaged or answers otherwise than it did, a task has several and no default,
        there is none, or one cannot be downloaded.
        """
        groups: list[list[tuple[str, Bundle]]] = []
        with self._clock.part("files"):
            for name in self._names:
                groups.append(self._read(name))
            order = defaults_first([[bundle for _, bundle in group] for group in groups])
        models = {bundle.path: self._loader.model(bundle) for bundle in order}
        self._groups = [{bundle.path: Stocked(mark, models[bundle.path]) for mark, bundle in group} for group in groups]
        loader = self._loader
        return Engine(list(models.values()), cores=loader.cores, threads=loader.threads, max_queue_ms=max_queue_ms)

    def reload(self) -> tuple[list[Model], list[Change]]:
        """Load what is new or has changed, and leave out what is gone, as a start would; what fails stays as it was.

        Models of the Hub stay: they are files of one commit. Returns: all models, defaults first, and what became of
        those that had changed.
        """
        changes: list[Change] = []
        groups = [self._reloaded(name, group, changes) for name, group in zip(self._names, self._groups, strict=True)]
        _keep_tasks(self._groups, groups, changes)
        try:
            models = _in_order(groups)
        except BundleError as error:
            return _in_order(self._groups), [Change("", "", "failed", str(error))]
        self._groups = groups
        return models, changes

    def _read(self, name: str) -> list[tuple[str, Bundle]]:
        """Read a model of the Hub, a bundle, or a directory of bundles, with fingerprints. Raises: BundleError."""
        path = Path(name)
        if self._by_name and is_hub_name(name):
            return [("", load_from_hub(name))]
        if self._by_name and not path.is_dir():
            raise BundleError(
                f"{name} is neither a directory nor a name on the Hugging Face Hub (org/name); correct it"
            )
        bundles = [(fingerprint(path), load_bundle(path)) for path in bundle_paths(path)]
        if not bundles:
            raise BundleError(f"{path} holds no bundle; export one with halfdepth export, or set HALFDEPTH_BUNDLES")
        return bundles

    def _reloaded(self, name: str, group: dict[Path, Stocked], changes: list[Change]) -> dict[Path, Stocked]:
        """Make a group again of what is in its directory now."""
        if any(stocked.model.bundle.origin for stocked in group.values()):
            return group
        try:
            paths = bundle_paths(Path(name))
        except BundleError as error:
            changes.append(Change("", "", "failed", str(error)))
            return group
        stocked = {path: self._again(path, group.get(path), changes) for path in paths}
        return {path: loaded for path, loaded in stocked.items() if loaded is not None}

    def _again(self, path: Path, before: Stocked | None, changes: list[Change]) -> Stocked | None:
        """Load a bundle if its files have changed. Returns: what was there before, if it fails or is the same."""
        try:
            mark = fingerprint(path)
            if before is not None and before.fingerprint == mark:
                return before
            bundle = load_bundle(path)
            if before is not None and bundle.revision == before.model.bundle.revision:
                return Stocked(mark, before.model)
            model = self._loader.model(bundle)
            if fingerprint(path) != mark:  # it may be half of the one and half of the other
                raise BundleError(f"{path} changed while it was loaded; ask for a reload once it is whole")
        except Exception as error:  # whatever is wrong with it, the others are served
            is_expected = isinstance(error, BundleError | OSError)
            if not is_expected:
                logger.exception("a bundle cannot be loaded")
            task, name = (before.model.bundle.task, before.model.id) if before else ("", path.name)
            changes.append(Change(task, name, "failed", str(error) if is_expected else f"{path}: {UNEXPECTED}"))
            return before
        changes.append(Change(bundle.task, model.id, "loaded"))
        return Stocked(mark, model)


def load_engine(settings: Settings, clock: StartClock | None = None) -> Engine:
    """Load what the settings name, once. Raises: BundleError."""
    return Stock(settings, clock).engine(settings.max_queue_ms)


def fingerprint(path: Path) -> str:
    """Tell by few bytes whether a bundle has changed: its manifest, which vouches for all else, and halfdepth.json;
    without a manifest, the names, sizes and times of its files. Raises: OSError.
    """
    if (path / MANIFEST).exists():
        files = [path / MANIFEST, path / OVERRIDES]
        marks = [(file.name, sha256_of(file)) for file in files if file.exists()]
    else:
        marks = [(str(file.relative_to(path)), _mark(file)) for file in sorted(_files(path))]
    return hashlib.sha256(repr(marks).encode()).hexdigest()


def _files(path: Path) -> Iterator[Path]:
    return (file for file in path.rglob("*") if file.is_file())


def _mark(file: Path) -> str:
    status = file.stat()
    return f"{status.st_size} {status.st_mtime_ns} {status.st_ino}"


def _keep_tasks(
    before: Sequence[dict[Path, Stocked]], after: Sequence[dict[Path, Stocked]], changes: list[Change]
) -> None:
    """Note what is gone; where a task would lose its last model, keep it: a directory may be empty for a moment."""
    tasks = {stocked.model.bundle.task for group in after for stocked in group.values()}
    for old, new in zip(before, after, strict=True):
        for path, stocked in old.items():
            if path in new:
                continue
            task, name = stocked.model.bundle.task, stocked.model.id
            if task in tasks:
                changes.append(Change(task, name, "removed"))
            else:
                new[path] = stocked
                error = f"{path} is gone, and is served on as the last bundle for {task}; restart to end that"
                changes.append(Change(task, name, "failed", error))


def _in_order(groups: Sequence[dict[Path, Stocked]]) -> list[Model]:
    """Raises: BundleError."""
    models = {path: stocked.model for group in groups for path, stocked in group.items()}
    order = defaults_first([[stocked.model.bundle for stocked in group.values()] for group in groups])
    return [models[bundle.path] for bundle in order]


def defaults_first(groups: Sequence[Sequence[Bundle]]) -> list[Bundle]:
    """Put each task's default before its other bundles.

    It is in the first group that has the task: the only one there, or the one in the directory named after the task.

    Raises: BundleError if that group has several and none in that directory, or a task has the same bundle twice.
    """
    bundles = [bundle for group in groups for bundle in group]
    defaults: list[Path] = []
    for task in {bundle.task: None for bundle in bundles}:
        by_id: dict[tuple[str, str], Path] = {}
        for bundle in (bundle for bundle in bundles if bundle.task == task):
            twin = by_id.setdefault((bundle.name, bundle.revision), bundle.path)
            if twin is not bundle.path:
                raise BundleError(f"{twin} and {bundle.path} hold the same bundle; leave one out")
        of_task = ([bundle for bundle in group if bundle.task == task] for group in groups)
        first = next(group for group in of_task if group)
        named = [bundle.path for bundle in first if bundle.directory == task]
        paths = [bundle.path for bundle in first]
        if len(paths) > 1 and not named:
            listed = f"{', '.join(map(str, paths[:-1]))} and {paths[-1]}"
            raise BundleError(f"{listed} all serve {task}; rename the directory of the default to {task}")
        defaults += named or paths
    return sorted(bundles, key=lambda bundle: bundle.path not in defaults)
