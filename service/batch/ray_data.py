"""Answers the lines of a batch on a Ray cluster, by Ray Data: each actor is an engine of one core."""

import asyncio
import json
import threading
from collections.abc import Iterator
from itertools import islice
from typing import Any

import ray
import ray.data
import ray.exceptions

from models.tasks.errors import first_line
from service.batch.lines import Answered, LineAnswers, lines_of
from service.batch.output import BatchError
from service.batch.pieces import Work, pieces
from service.batch.run import AHEAD, Tally, bundles_of, run
from service.engine.errors import ServiceError
from service.routes import ROUTES
from service.startup.loading import load_engine

LOCAL = "local"


class Actor:
    """Answers pieces of the input. Ray Data makes one for each core, and calls it with one piece after the other."""

    def __init__(self, work: Work) -> None:
        """Raises: BatchError if this node has other bundles than the one where the command was given."""
        self._work, self._settings = work, work.settings.model_copy(update={"threads": 1})
        engine = load_engine(self._settings)
        if bundles_of(engine) != work.bundles:
            raise BatchError("a node of the cluster has other bundles than this machine; give all nodes the same")
        threading.Thread(target=engine.check_runs, name="watch", daemon=True).start()
        self._answers = LineAnswers(
            ROUTES, engine, route=work.route, timings=work.timings, max_inputs=self._settings.max_inputs
        )
        self._loop = asyncio.new_event_loop()

    def __call__(self, piece: dict[str, Any]) -> dict[str, Any]:  # rows of Ray's
        answered: list[Answered] = []
        with self._work.source.open("rb") as file:
            file.seek(piece["offset"])
            lines = islice(lines_of(file, self._settings.max_body_bytes), piece["lines"])
            work = run(lines, self._answers.answer, answered.append, ahead=AHEAD, tally=Tally())
            self._loop.run_until_complete(work)
        errors = [None if line.error is None else str(line.error) for line in answered]
        return {"contents": b"\n".join([line.content for line in answered]), "errors": json.dumps(errors)}


def answers_of(address: str, work: Work, done: int) -> Iterator[Answered]:
    """Give the answers to the lines behind the first `done`, in order, as they come from the cluster.

    `address`: as Ray takes it, or `local` for a cluster of this machine alone. A piece whose actor dies is given to
    another one. Raises: BatchError.
    """
    to_do = list(pieces(work.source, skip=done))
    if not to_do:
        return
    try:
        ray.init(address=address, include_dashboard=False, log_to_driver=False)
    except Exception as error:  # Ray's own errors of a start share no narrower class
        raise BatchError(f"no Ray cluster can be used at {address}: {first_line(error)}") from error
    try:
        context = ray.data.DataContext.get_current()
        context.execution_options.preserve_order = True
        context.enable_progress_bars = False
        cores = int(ray.cluster_resources()["CPU"])
        pool = ray.data.ActorPoolStrategy(min_size=1, max_size=min(cores, len(to_do)))
        rows = ray.data.from_items(to_do, override_num_blocks=len(to_do)).map(
            Actor, fn_constructor_args=(work,), compute=pool, num_cpus=1
        )
        for row in rows.iter_rows():
            for content, refusal in zip(row["contents"].split(b"\n"), json.loads(row["errors"]), strict=True):
                yield Answered(content, None if refusal is None else ServiceError(refusal))
    except ray.exceptions.RayError as failure:
        raise BatchError(f"the Ray cluster failed: {first_line(failure)}") from failure
    finally:
        ray.shutdown()
