"""Follows the run in one of Locust's processes: its clock, what is under way, and how it ends.

Locust's own end by --run-time would lose what is slow: it stops users in the midst of a request, and a master waits
half a second for its workers' last figures. So a process ends by itself once its time is over and every request has
an answer or has timed out; a master ends when all its workers have.
"""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from time import perf_counter

import gevent
from locust.env import Environment
from locust.runners import WORKER_REPORT_INTERVAL, MasterRunner, WorkerRunner

from loadtest.users.plan import Plan

FINISHED = "finished"  # the message of a worker to its master
POLL_S = 0.05
REPORT_S = WORKER_REPORT_INTERVAL + 0.5  # within this time a worker has sent its figures
HEAD_START_S = 0.3  # for what Locust does when it starts users, which would make the first requests late
GRACE_S = 2.0  # beyond a request's timeout


class Course:
    """Holds the state of this process. `under_way`: requests that were sent, or will be when they are due."""

    def __init__(self) -> None:
        self.under_way = 0
        self.is_complete = False
        self._began: float | None = None
        self._finished_workers: set[str] = set()

    def begin(self, environment: Environment, plan: Plan) -> None:
        """Set the clock, when the load starts: also in a worker that has no user yet, or never one."""
        self._began = perf_counter() + HEAD_START_S
        if math.isfinite(plan.seconds):
            gevent.spawn(self._finish, environment, plan)

    def elapsed(self) -> float:
        """Seconds since the start; below zero before it."""
        assert self._began is not None
        return perf_counter() - self._began

    @contextmanager
    def request(self) -> Iterator[None]:
        """Count a request as under way within the block."""
        self.under_way += 1
        try:
            yield
        finally:
            self.under_way -= 1

    def listen(self, environment: Environment, plan: Plan) -> None:
        """Let a master end when its workers have finished."""
        runner = environment.runner

        def note(msg: "object", **_: object) -> None:
            self._finished_workers.add(getattr(msg, "node_id", ""))
            if len(self._finished_workers) == plan.workers:
                self._quit(environment)

        if isinstance(runner, MasterRunner):
            runner.register_message(FINISHED, note)

    def _finish(self, environment: Environment, plan: Plan) -> None:
        gevent.sleep(plan.seconds - self.elapsed())
        while self.under_way and self.elapsed() < plan.seconds + plan.timeout_s + GRACE_S:
            gevent.sleep(POLL_S)
        runner = environment.runner
        if isinstance(runner, WorkerRunner):
            gevent.sleep(REPORT_S)
            runner.send_message(FINISHED)
        else:
            self._quit(environment)

    def _quit(self, environment: Environment) -> None:
        self.is_complete = True
        assert environment.runner is not None
        gevent.spawn(environment.runner.quit)  # on a greenlet of its own, since it ends the one that calls it


COURSE = Course()
"""Of this process."""
