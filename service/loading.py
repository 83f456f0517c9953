"""From a directory of bundles to an engine that has run each of them once."""

import logging
import os
from pathlib import Path
from time import perf_counter_ns

from models.tasks.build import build_task
from models.tasks.bundle import Bundle, BundleError, TaskName, load_bundle
from models.tasks.classification import ClassificationInput
from models.tasks.qa import QAInput
from models.tasks.similarity import EmbeddingInput
from service.cpu import cpu_share
from service.engine import AnyModel, Engine, Model
from service.session import OnnxSession, graph_outputs, open_graph
from service.settings import Settings

logger = logging.getLogger(__name__)

WARM_UP: dict[TaskName, object] = {
    "qa": QAInput("Who?", "Nobody."),
    "classify": ClassificationInput("Nobody."),
    "similarity": EmbeddingInput("Nobody."),
}


def load_engine(settings: Settings) -> Engine:
    """Raises: BundleError if a bundle is damaged, two are for one task, or there is none at all."""
    threads = cpu_share() if settings.threads == "auto" else settings.threads
    # Otherwise `encode_batch` starts a thread pool of its own, sized to the host, for a batch of one.
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    models: dict[TaskName, AnyModel] = {}
    for path in _bundle_paths(settings.bundles):
        bundle = load_bundle(path)
        if bundle.task in models:
            raise BundleError(f"{path} and {models[bundle.task].bundle.path} both serve {bundle.task}; remove one")
        models[bundle.task] = _load_model(bundle, settings, threads)
        logger.info("loaded", extra={"data": {"bundle": str(path), "task": bundle.task, "revision": bundle.revision}})
    return Engine(models, threads=threads)


def _bundle_paths(root: Path) -> list[Path]:
    if not root.is_dir():
        raise BundleError(f"{root} is no directory; set HALFDEPTH_BUNDLES to one that holds bundles")
    paths = sorted(path for path in root.iterdir() if path.is_dir() and not path.name.startswith("."))
    if not paths:
        raise BundleError(f"{root} holds no bundle; export one with python -m export, or set HALFDEPTH_BUNDLES")
    return paths


def _load_model(bundle: Bundle, settings: Settings, threads: int) -> AnyModel:
    graph = open_graph(bundle, threads=threads)
    task = build_task(bundle, graph_outputs(graph), max_windows=settings.max_windows)
    model: AnyModel = Model(bundle, task, OnnxSession(bundle, graph, task.output_names))
    try:
        model.answer(WARM_UP[bundle.task], perf_counter_ns())  # the first run allocates; no caller should wait
    except Exception as error:  # onnxruntime's errors share no narrower class
        reason = str(error).partition("\n")[0]
        raise BundleError(f"{bundle.path} loads but cannot answer ({reason}); export the bundle again") from error
    return model
