"""Does the service's work in this process without HTTP, for comparison."""

import os
import threading
from collections.abc import Callable
from time import perf_counter
from typing import Any

import onnxruntime

from models.tasks.build import build_task
from models.tasks.bundle import Bundle
from models.tasks.session import feed


def in_process(bundle: Bundle, threads: int) -> Callable[[Any], Any]:
    """An input of the bundle's task to its result, on a session with the service's options."""
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.add_session_config_entry("session.force_spinning_stop", "1")
    session = onnxruntime.InferenceSession(
        str(bundle.model_path),
        options,
        providers=["CPUExecutionProvider"],
        disabled_optimizers=set(bundle.disabled_optimizers),
    )
    inputs = [item.name for item in session.get_inputs()]
    task: Any = build_task(bundle, [item.name for item in session.get_outputs()])
    outputs = list(task.output_names)

    def answer(item: Any) -> Any:
        encoding = task.encode(item)
        runs = [session.run(outputs, feed(window, inputs)) for window in encoding.windows]
        return task.decode(encoding, [tuple(output[0] for output in run) for run in runs])

    return answer


def back_to_back(bundle: Bundle, item: Any, workers: int, seconds: float) -> float:
    """Answers a second of so many threads, each with a session of one thread: the ceiling of any server."""
    counts = [0] * workers
    sessions = [in_process(bundle, 1) for _ in range(workers)]
    end = perf_counter() + seconds

    def work(number: int) -> None:
        while perf_counter() < end:
            sessions[number](item)
            counts[number] += 1

    threads = [threading.Thread(target=work, args=(number,)) for number in range(workers)]
    began = perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return sum(counts) / (perf_counter() - began)
