"""Loads bundles as a start does: are they whole, how far does int8 drift here, what do they take?"""

from collections.abc import Iterator
from itertools import takewhile
from pathlib import Path
from typing import Any

from models.tasks.build import SPECS
from models.tasks.bundle import Bundle, bundle_paths, load_bundle
from models.tasks.directory.files import BundleError
from models.tasks.errors import HalfdepthError
from service.checkup.finding import Finding, System, bytes_of, fields_of, megabytes
from service.engine.model import Model
from service.settings import Settings
from service.startup.hub import is_hub_name
from service.startup.loading import defaults_first
from service.startup.opening import Loader

HEADROOM = 1.25  # what requests take beside the models: their texts, their windows' activations (assumption)


def find(settings: Settings) -> tuple[list[list[Path]], list[Finding]]:
    """List the bundles of each directory that the service would serve, with findings about what it would not.

    Names on the Hub are not downloaded: they are groups without bundles.
    """
    groups: list[list[Path]] = []
    findings = []
    for name in settings.models or (str(settings.bundles),):
        if settings.models and is_hub_name(name):
            advice = f"Download it, and give its directory: halfdepth doctor --bundles DIR checks {name} too."
            findings.append(Finding("bundles", "note", f"{name} is on the Hub, and not checked", advice))
            groups.append([])
            continue
        try:
            groups.append(bundle_paths(Path(name)))
        except BundleError as error:
            findings.append(_absent(settings, str(error)))
            continue
        if not groups[-1]:
            findings.append(_absent(settings, f"{name} holds no bundle"))
    return groups, findings


def _absent(settings: Settings, text: str) -> Finding:
    """Tell that a directory has no bundles: `act` if somebody named it, for the default one may well be absent."""
    is_named = bool(settings.model_fields_set & {"bundles", "models"})
    advice = "Export a bundle with halfdepth export, or name the directory of yours with --bundles."
    return Finding("bundles", "act" if is_named else "note", text, advice)


def check(groups: list[list[Path]], settings: Settings, threads: int, models: list[Model]) -> Iterator[Finding]:
    """Load each bundle and go on with the next if it is broken; those that can be served are added to `models`."""
    loader = Loader(settings.model_copy(update={"threads": threads}))  # of a fixed number, nothing is measured
    whole: list[list[Bundle]] = []
    for paths in groups:
        whole.append([])
        for path in paths:
            try:
                bundle = load_bundle(path)
                model = loader.model(bundle)
            except (HalfdepthError, OSError) as error:
                advice = "Do as it says: the service does not start with this bundle."
                yield Finding(f"bundle {path.name}", "act", str(error), advice, {"path": str(path)})
                continue
            whole[-1].append(bundle)
            models.append(model)
            yield _loaded(bundle, model)
    try:
        # Which bundle is a task's default depends on all groups before it, and of some nothing is known.
        defaults_first(list(takewhile(bool, whole)))
    except BundleError as error:
        yield Finding("bundles", "act", str(error), "Do as it says: the service does not start with these bundles.")


def _loaded(bundle: Bundle, model: Model) -> Finding:
    """Tell how far a bundle's golden answers are from the recorded ones. `model`: what would be served."""
    size = sum(file.stat().st_size for file in bundle.path.rglob("*") if file.is_file())
    served = model.bundle
    values: dict[str, Any] = {
        "path": str(bundle.path),
        "task": bundle.task,
        "name": bundle.name,
        "revision": bundle.revision,
    }
    values |= {"drift": model.drift, "max_drift": SPECS[bundle.task].max_drift}
    values |= {"megabytes": round(size / 1e6, 1), "precision": served.precision}
    subject = f"bundle {bundle.path.name}"
    kind = f"{bundle.task}, {bundle.precision}, {megabytes(size)}"
    if model.drift is None:
        advice = "Export it with halfdepth export: golden answers then show whether another CPU answers otherwise."
        return Finding(subject, "note", f"{kind}: it has no golden answers", advice, values)
    text = f"{kind}: golden answers are off by {model.drift:.4f}, and {values['max_drift']:g} is allowed"
    if model.drift <= SPECS[bundle.task].max_drift:
        return Finding(subject, "ok", text, values=values)
    instead = "its fp32 graph" if served.precision != bundle.precision else "exact products"
    advice = f"Export it with --reduce-range, or use a machine with VNNI: {instead} would be served, which is slower."
    return Finding(subject, "act", text, advice, values)


def memory(system: System, available: int | None, models: list[Model]) -> Finding:
    """Compare what this process takes, with the models that are loaded, with what there is.

    `available`: bytes, before they were loaded.
    """
    taken, limit = bytes_of(fields_of(system.proc / "self" / "status"), "VmRSS"), system.cgroups.memory_limit()
    values = {"available_mb": available and available // 10**6, "limit_mb": limit and limit // 10**6}
    values |= {"taken_mb": taken and taken // 10**6, "bundles": len(models)}
    phrases = [f"{megabytes(available)} available"] if available is not None else []
    phrases.append("no limit" if limit is None else f"a limit of {megabytes(limit)}")
    if taken is None:
        advice = "Look at the memory of a running service: the kernel does not tell what this process takes."
        return Finding("memory", "note", ", ".join(phrases), advice, values)
    loaded = f"{len(models)} bundle{'s' * (len(models) != 1)} loaded"
    text = f"{', '.join(phrases)}; a process with {loaded} takes {megabytes(taken)}"
    need = int(HEADROOM * taken)
    room = min((size for size in (available, limit) if size is not None), default=None)
    if room is not None and room < need:
        advice = f"Give it at least {megabytes(need)}, or serve fewer bundles: the kernel would kill the service."
        return Finding("memory", "act", text, advice, values)
    return Finding("memory", "ok", text, values=values)
