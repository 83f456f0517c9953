"""Makes an engine of bundles: each is loaded, checked on this CPU, and measured."""

import logging
import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from models.tasks.build import SPECS, build_task
from models.tasks.bundle import Bundle, bundle_paths, fp32_of, load_bundle
from models.tasks.directory.files import BundleError
from models.tasks.session import OnnxSession, Session, graph_outputs, open_graph
from service.engine.costs import LoneRuns
from service.engine.engine import Engine
from service.engine.model import Model
from service.settings import Settings
from service.startup import tuning
from service.startup.golden import drift
from service.startup.hub import is_hub_name, load_from_hub
from service.startup.tuning import cpu_share

logger = logging.getLogger(__name__)


def load_engine(settings: Settings) -> Engine:
    """Load every bundle of the directory, or the models that are named instead.

    Raises: BundleError if a bundle is damaged or answers otherwise than it did, a task has several and no default,
    there is none, or one cannot be downloaded.
    """
    # Otherwise `encode_batch` starts a thread pool of its own, sized to the host, for a batch of one.
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    auto = settings.threads == "auto"
    cores = threads = cpu_share() if settings.threads == "auto" else settings.threads
    groups = [_load(name) for name in settings.models] or [_load_directory(settings.bundles)]
    models: list[Model] = []
    for bundle in _defaults_first(groups):
        if auto and not models:  # one model is enough to tell
            threads = _most_threads(bundle, settings, cores)
        model = _checked(_open(bundle, settings, threads), settings, threads)
        models.append(_measured(model) if auto else model)
        served = {"bundle": str(bundle.path), "task": bundle.task, "revision": bundle.revision, "file": bundle.file}
        if origin := bundle.origin:
            served |= {"repository": origin.repository, "commit": origin.commit}
        logger.info("loaded", extra={"data": served})
    return Engine(models, cores=cores, threads=threads, max_queue_ms=settings.max_queue_ms)


def _load(name: str) -> list[Bundle]:
    """Load a model of the Hub, a bundle, or a directory of bundles. Raises: BundleError."""
    if is_hub_name(name):
        return [load_from_hub(name)]
    path = Path(name)
    if not path.is_dir():
        raise BundleError(f"{name} is neither a directory nor a name on the Hugging Face Hub (org/name); correct it")
    return _load_directory(path)


def _load_directory(root: Path) -> list[Bundle]:
    bundles = [load_bundle(path) for path in bundle_paths(root)]
    if not bundles:
        raise BundleError(f"{root} holds no bundle; export one with halfdepth export, or set HALFDEPTH_BUNDLES")
    return bundles


def _defaults_first(groups: Sequence[Sequence[Bundle]]) -> list[Bundle]:
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
                raise BundleError(f"{twin} and {bundle.path} hold the same bundle; remove one")
        of_task = ([bundle for bundle in group if bundle.task == task] for group in groups)
        first = next(group for group in of_task if group)
        named = [bundle.path for bundle in first if bundle.directory == task]
        paths = [bundle.path for bundle in first]
        if len(paths) > 1 and not named:
            listed = f"{', '.join(map(str, paths[:-1]))} and {paths[-1]}"
            raise BundleError(f"{listed} all serve {task}; rename the directory of the default to {task}")
        defaults += named or paths
    return sorted(bundles, key=lambda bundle: bundle.path not in defaults)


def _open(bundle: Bundle, settings: Settings, threads: int, *, exact_products: bool = False) -> Model:
    """Open a graph for one core and, for more threads than one, another for a run while no other runs."""
    graph = open_graph(bundle, threads=1, exact_products=exact_products)
    wide = open_graph(bundle, threads=threads, exact_products=exact_products) if threads > 1 else None
    task = build_task(bundle, graph_outputs(graph), max_windows=settings.max_windows)
    model = Model(bundle, task, OnnxSession(bundle, graph, task.output_names, wide), LoneRuns(threads))
    try:
        model.answer(SPECS[bundle.task].warm_up)  # the first run allocates; no caller should wait
        if wide is not None and not tuning.same_outputs(model.session, tuning.lengths_of(task.max_length)):
            logger.warning("%s: the number of threads changes its outputs: one thread for each run", bundle.path)
            model = replace(model, session=OnnxSession(bundle, graph, task.output_names), lone=LoneRuns(1))
    except Exception as error:  # onnxruntime's errors share no narrower class
        reason = str(error).partition("\n")[0]
        raise BundleError(f"{bundle.path} loads but cannot answer ({reason}); export the bundle again") from error
    return model


def _most_threads(bundle: Bundle, settings: Settings, cores: int) -> int:
    def open_wide(threads: int) -> Session:
        return _open(bundle, settings, threads).session

    tokens = tuning.lengths_of(_open(bundle, settings, 1).task.max_length)[-1] if cores > 2 else 0
    return tuning.most_threads(open_wide, cores, tokens)


def _measured(model: Model) -> Model:
    """Let a model know what its runs cost here, and begin to learn whether lone ones pay on all of their threads."""
    session, lengths = model.session, tuning.lengths_of(model.task.max_length)
    costs, threads = tuning.measure_costs(session, lengths), model.lone.threads
    share = tuning.wide_share(session, session, lengths[-1], of_wide=False) if threads > 1 else 1.0
    return replace(model, costs=costs, lone=LoneRuns(threads, learns=True, wide_share=share, costs=costs))


def _checked(model: Model, settings: Settings, threads: int) -> Model:
    """Returns: the model; if int8 answers otherwise here than where it was exported, the same with exact products, or
    else its fp32 graph. `drift` is that of the int8 graph as it is. Raises: BundleError.
    """
    bundle, int8_drift = model.bundle, drift(model)
    bound = SPECS[bundle.task].max_drift
    if int8_drift is None or int8_drift <= bound:
        return replace(model, drift=int8_drift)
    fault = f"{bundle.path}: on this CPU its golden answers are off by {int8_drift:.3f}, and {bound:g} is allowed"
    if exact := _exact(bundle, settings, threads, bound):
        logger.warning("%s: its int8 products saturate; exact ones, which take longer, are used instead", fault)
        return replace(exact, drift=int8_drift)
    fp32 = fp32_of(bundle)
    if fp32 is None:
        raise BundleError(f"{fault}; export it with --reduce-range, or with --keep-fp32 to fall back to fp32")
    logger.warning("%s: serving its fp32 graph instead", fault)
    return replace(_open(fp32, settings, threads), drift=int8_drift)


def _exact(bundle: Bundle, settings: Settings, threads: int, bound: float) -> Model | None:
    """Returns: an int8 graph with exact products, if they bring it within its bound."""
    if bundle.precision != "int8":
        return None
    model = _open(bundle, settings, threads, exact_products=True)
    return model if (drift(model) or 0.0) <= bound else None
