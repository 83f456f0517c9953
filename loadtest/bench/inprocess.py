"""Does the service's work in this process without HTTP, for comparison."""

import os
import threading
from collections.abc import Callable
from time import perf_counter
from typing import Any

from models.tasks.base import answerer
from models.tasks.build import SPECS, build_task
from models.tasks.bundle import Bundle, as_exported, fp32_of, golden_drift
from models.tasks.session import OnnxSession, graph_outputs, open_graph


def in_process(bundle: Bundle, threads: int) -> Callable[[Any], Any]:  # of the bundle's inputs and results
    """Make the function from an input to its result, by the graph and the products that the service chooses here."""
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")  # as the service
    return _answerer(*as_served(bundle), threads)


def as_served(bundle: Bundle) -> tuple[Bundle, bool]:
    """Tell which graph the service chooses on this CPU, and whether with exact products.

    It is the bundle's own if its golden answers come out as recorded, else exact products, else its fp32 graph.
    """
    candidates = [(bundle, False)]
    if bundle.precision == "int8":
        candidates.append((bundle, True))
        candidates += [(fp32, False) for fp32 in [fp32_of(bundle)] if fp32]
    for candidate in candidates:
        served, exact_products = candidate
        answer = _answerer(as_exported(served), exact_products, 1)
        if (golden_drift(served, answer) or 0.0) <= SPECS[bundle.task].max_drift:
            break
    return candidate


def _answerer(bundle: Bundle, exact_products: bool, threads: int) -> Callable[[Any], Any]:
    graph = open_graph(bundle, threads=threads, exact_products=exact_products)
    task = build_task(bundle, graph_outputs(graph))
    return answerer(task, OnnxSession(bundle, graph, task.output_names).run)


def back_to_back(bundle: Bundle, item: Any, workers: int, seconds: float) -> float:
    """Count the answers a second of so many threads, each with a session of one thread: the ceiling of any server."""
    counts = [0] * workers
    answers = [in_process(bundle, 1) for _ in range(workers)]
    end = perf_counter() + seconds

    def work(number: int) -> None:
        while perf_counter() < end:
            answers[number](item)
            counts[number] += 1

    threads = [threading.Thread(target=work, args=(number,)) for number in range(workers)]
    began = perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return sum(counts) / (perf_counter() - began)
