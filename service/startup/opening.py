"""Makes a model of a bundle: its graph is opened, checked on this CPU, and measured."""

import logging
import os
from dataclasses import replace
from threading import Timer

from models.tasks.build import SPECS, build_task
from models.tasks.bundle import Bundle, as_exported, fp32_of
from models.tasks.directory.files import BundleError
from models.tasks.session import Cancellation, OnnxSession, Session, graph_outputs, open_graph
from service.engine.costs import LoneRuns
from service.engine.model import Model
from service.settings import Settings
from service.startup import tuning
from service.startup.cgroups import cpu_share
from service.startup.clock import StartClock
from service.startup.golden import drift

logger = logging.getLogger(__name__)

WARM_UP_S = 60.0  # for the first run, of a few tokens; assumption: no encoder of a few gigabytes takes a tenth of it


class Loader:
    """Makes models of bundles: each is opened, checked on this CPU, and measured.

    `cores` is how many units run at the same time; `threads` is how many a lone run takes, which the first bundle
    tells.
    """

    def __init__(self, settings: Settings, clock: StartClock | None = None) -> None:
        # Otherwise `encode_batch` starts a thread pool of its own, sized to the host, for a batch of one.
        os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
        self.settings = settings
        self.clock = clock or StartClock()
        self.cores = cpu_share() if settings.threads == "auto" else settings.threads
        self._measures = settings.threads == "auto"
        self._threads: int | None = None if self._measures else self.cores

    @property
    def threads(self) -> int:
        return self._threads or self.cores

    def model(self, bundle: Bundle) -> Model:
        """Raises: BundleError if it is damaged, or answers otherwise than it did."""
        if self._threads is None:  # one model is enough to tell
            with self.clock.part("tuning"):
                self._threads = self._most_threads(bundle)
        model = self._checked(self._open(bundle, self.threads))
        if self._measures:
            with self.clock.part("tuning"):
                model = _measured(model)
        served = {"bundle": str(bundle.path), "task": bundle.task, "revision": bundle.revision, "file": bundle.file}
        if origin := bundle.origin:
            served |= {"repository": origin.repository, "commit": origin.commit}
        logger.info("loaded", extra={"data": served})
        return model

    def _most_threads(self, bundle: Bundle) -> int:
        def open_wide(threads: int) -> Session:
            return self._open(bundle, threads).session

        tokens = tuning.lengths_of(self._open(bundle, 1).task.max_length)[-1] if self.cores > 2 else 0
        return tuning.most_threads(open_wide, self.cores, tokens)

    def _open(self, bundle: Bundle, threads: int, *, exact_products: bool = False) -> Model:
        """Open a graph for one core and, for more threads than one, another for a run while no other runs."""
        with self.clock.part("graphs"):
            return _opened(bundle, self.settings.max_windows, threads, exact_products=exact_products)

    def _checked(self, model: Model) -> Model:
        """Returns: the model; if int8 answers otherwise here than where it was exported, the same with exact products,
        or else its fp32 graph. `drift` is that of the int8 graph as it is. Raises: BundleError.
        """
        bundle = model.bundle
        int8_drift = self._drift(model)
        bound = SPECS[bundle.task].max_drift
        if int8_drift is None or int8_drift <= bound:
            return replace(model, drift=int8_drift)
        fault = f"{bundle.path}: on this CPU its golden answers are off by {int8_drift:.3f}, and {bound:g} is allowed"
        if exact := self._exact(bundle, bound):
            logger.warning("%s: its int8 products saturate; exact ones, which take longer, are used instead", fault)
            return replace(exact, drift=int8_drift)
        fp32 = fp32_of(bundle)
        if fp32 is None:
            raise BundleError(f"{fault}; export it with --reduce-range, or with --keep-fp32 to fall back to fp32")
        logger.warning("%s: serving its fp32 graph instead", fault)
        return replace(self._open(fp32, self.threads), drift=int8_drift)

    def _exact(self, bundle: Bundle, bound: float) -> Model | None:
        """Returns: an int8 graph with exact products, if they bring it within its bound."""
        if bundle.precision != "int8":
            return None
        model = self._open(bundle, self.threads, exact_products=True)
        return model if (self._drift(model, exact_products=True) or 0.0) <= bound else None

    def _drift(self, model: Model, *, exact_products: bool = False) -> float | None:
        """Ask a model's golden answers as they were recorded: what halfdepth.json changes is no fault of the CPU."""
        if model.bundle.manifest and model.bundle.overrides.changes_results:
            model = self._open(as_exported(model.bundle), threads=1, exact_products=exact_products)
        with self.clock.part("golden"):
            return drift(model)


def _opened(bundle: Bundle, max_windows: int, threads: int, *, exact_products: bool) -> Model:
    """Raises: BundleError if the graph cannot be opened, or does not run."""
    graph = open_graph(bundle, threads=1, exact_products=exact_products)
    wide = open_graph(bundle, threads=threads, exact_products=exact_products) if threads > 1 else None
    task = build_task(bundle, graph_outputs(graph), max_windows=max_windows)
    model = Model(bundle, task, OnnxSession(bundle, graph, task.output_names, wide), LoneRuns(threads))
    cancellation = Cancellation()
    timer = Timer(WARM_UP_S, cancellation.request)
    timer.start()
    try:
        model.answer(SPECS[bundle.task].warm_up, cancellation)  # the first run allocates; no caller should wait
        if wide is not None and not tuning.same_outputs(model.session, tuning.lengths_of(task.max_length)):
            logger.warning("%s: the number of threads changes its outputs: one thread for each run", bundle.path)
            model = replace(model, session=OnnxSession(bundle, graph, task.output_names), lone=LoneRuns(1))
    except Exception as error:  # onnxruntime's errors share no narrower class
        reason = str(error).partition("\n")[0]
        if cancellation.requested:
            reason = f"its first run took longer than {WARM_UP_S:g} s"
        raise BundleError(f"{bundle.path} loads but cannot answer ({reason}); export the bundle again") from error
    finally:
        timer.cancel()
    return model


def _measured(model: Model) -> Model:
    """Let a model know what its runs cost here, and begin to learn whether lone ones pay on all of their threads."""
    session, lengths = model.session, tuning.lengths_of(model.task.max_length)
    costs, threads = tuning.measure_costs(session, lengths), model.lone.threads
    share = tuning.wide_share(session, session, lengths[-1], of_wide=False) if threads > 1 else 1.0
    return replace(model, costs=costs, lone=LoneRuns(threads, learns=True, wide_share=share, costs=costs))
