"""Asks the service for Locust's users, and logs what its answers say.

Stages, phases and replicas have separate rows. Times of these rows are logged only to them, not by Locust's event, so
that the totals count nothing but requests. Locust's CSV rounds percentiles down to whole milliseconds, but not
averages; its HTML rounds neither.
"""

import json
import math
from argparse import ArgumentParser
from collections.abc import Iterator
from http import HTTPStatus
from pathlib import Path
from typing import Any

import gevent
import locust.stats
from locust import FastHttpUser, events
from locust.env import Environment
from locust.exception import CatchResponseError
from locust.runners import MasterRunner, WorkerRunner

from loadtest.routes import read_routes
from loadtest.users.course import COURSE
from loadtest.users.plan import Plan, Request, read_plan
from loadtest.users.rows import PHASE, REPLICA, REPLICA_STAGE, STAGE, joined, measured
from loadtest.users.shapes import phase_at
from models.tasks.remote.client import Client, client_key, key_headers, refusal

REFUSED = {HTTPStatus.SERVICE_UNAVAILABLE, HTTPStatus.GATEWAY_TIMEOUT}
LATE_ANSWER = "no answer in time"
REPLICA_HEADER = "x-replica"  # loadtest/users/balanced.py has nginx say it


def three_figures(milliseconds: float) -> float:
    """Round a time to three figures: Locust rounds to whole milliseconds, and a tokenization takes a fifth of one."""
    return float(f"{milliseconds:.3g}")


locust.stats.bucket_response_time = three_figures  # type: ignore[assignment]  # declared int, and documented as free


def stages(server_timing: str) -> Iterator[tuple[str, float]]:
    """Split `queue;dur=0.041, tokenization;dur=0.345` into names and milliseconds; what has no duration is left out."""
    for metric in filter(None, server_timing.split(", ")):
        name, separator, duration = metric.partition(";dur=")
        if separator:
            yield name, float(duration)


def add_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("--plan", help="a file with what to send, as loadtest/users/plan.py writes it")
    parser.add_argument("--measured", help="write what was measured into this file")


def load_plan(environment: Environment, **_: object) -> None:
    """Take the plan in place of its file. A worker gets it from the master, when it is told to start users."""
    options = environment.parsed_options
    if options is None or isinstance(environment.runner, WorkerRunner):
        return
    if options.plan:
        plan = read_plan(Path(options.plan).read_text(encoding="utf-8"))
    else:  # a Locust that somebody started by hand
        routes = tuple(read_routes(Client(environment.host or "", client_key(None))))
        plan = Plan(routes=routes, seconds=math.inf)
    options.plan = plan.text()
    COURSE.listen(environment, plan)


def begin(environment: Environment, **_: object) -> None:
    """Start the clock where users are: not in a master."""
    if environment.parsed_options is not None and not isinstance(environment.runner, MasterRunner):
        COURSE.begin(environment, read_plan(environment.parsed_options.plan))


def write_measured(environment: Environment, **_: object) -> None:
    """Leave the figures of all processes, if none broke off."""
    options = environment.parsed_options
    if options is not None and options.measured and COURSE.is_complete:
        content = measured(environment.stats, read_plan(options.plan)).content()
        Path(options.measured).write_text(json.dumps(content), encoding="utf-8")


# Locust annotates no events.
events.init_command_line_parser.add_listener(add_arguments)  # type: ignore[no-untyped-call]
events.init.add_listener(load_plan)  # type: ignore[no-untyped-call]
events.test_start.add_listener(begin)  # type: ignore[no-untyped-call]
events.quitting.add_listener(write_measured)  # type: ignore[no-untyped-call]


class Asker(FastHttpUser):
    """Asks the service, and logs what its answers say."""

    abstract = True

    def __init__(self, environment: Environment) -> None:
        assert environment.parsed_options is not None
        self.plan = read_plan(environment.parsed_options.plan)
        self.network_timeout = self.connection_timeout = self.plan.timeout_s
        super().__init__(environment)

    def on_start(self) -> None:
        self._headers = key_headers(client_key(None))

    @property
    def process_number(self) -> int:
        """Tell Locust's processes apart, from 0."""
        return max(int(getattr(self.environment.runner, "worker_index", 0)), 0)

    def send(self, request: Request, due: float | None = None) -> None:
        """Ask, and log. `due`: when it ought to have been sent, in seconds from the start; else it is now."""
        moment = COURSE.elapsed() if due is None else due
        try:
            # Locust's own timeout is of one wait for bytes, and a server may send them one by one.
            with gevent.Timeout(self.plan.timeout_s):
                self._send(request, moment, is_due=due is not None)
        except gevent.Timeout:
            self.give_up(request[0], moment, LATE_ANSWER)

    def _send(self, request: Request, moment: float, *, is_due: bool) -> None:
        path, body = request
        name = path.partition("?")[0]
        with self.client.post(path, json=body, name=name, headers=self._headers, catch_response=True) as response:
            milliseconds = (COURSE.elapsed() - moment) * 1e3
            if is_due:
                response.request_meta["response_time"] = milliseconds
            self._log_phase(name, moment, milliseconds, is_failed=response.status_code != HTTPStatus.OK)
            if response.status_code == HTTPStatus.OK:
                replica = (response.headers.get(REPLICA_HEADER) or "").rpartition(", ")[2]
                self._log_stages(name, response.headers.get("server-timing") or "", replica)
                if replica:
                    self._log(REPLICA, milliseconds, name, replica)
            elif response.status_code == 0:
                response.failure(f"unanswered: {_reason(response.error)}")
            elif response.status_code in REFUSED:
                response.failure(f"refused: {response.status_code} {_code(response.content or b'')}".rstrip())
            else:
                response.failure(f"failed: {refusal(response.status_code, response.content or b'')}")

    def give_up(self, path: str, due: float, reason: str) -> None:
        """Log a request without an answer: it counts for as long as anybody would have waited for it, or longer."""
        name = path.partition("?")[0]
        milliseconds = max(COURSE.elapsed() - due, self.plan.timeout_s) * 1e3
        self._log_phase(name, due, milliseconds, is_failed=True)
        self.environment.events.request.fire(
            request_type="POST",
            name=name,
            response_time=milliseconds,
            response_length=0,
            exception=CatchResponseError(f"unanswered: {reason}"),
            context={},
        )

    def _log_stages(self, name: str, server_timing: str, replica: str) -> None:
        for stage, milliseconds in stages(server_timing):
            self._log(STAGE, milliseconds, name, stage)
            if replica:
                self._log(REPLICA_STAGE, milliseconds, name, stage, replica)

    def _log_phase(self, name: str, moment: float, milliseconds: float, *, is_failed: bool) -> None:
        if phase := phase_at(self.plan.shape, moment / self.plan.seconds).name:
            entry = self._log(PHASE, milliseconds, name, phase)
            if is_failed:
                entry.num_failures += 1

    def _log(self, method: str, milliseconds: float, *parts: str) -> Any:  # Locust types none of its statistics
        entry = self.environment.stats.get(joined(*parts), method)
        entry.log(milliseconds, 0)
        return entry


def _reason(error: object) -> str:
    """Name what went wrong with a connection, without what differs from one to the next."""
    cause = getattr(error, "original", error)  # of geventhttpclient's RetriesExceeded
    if isinstance(cause, TimeoutError):
        return LATE_ANSWER
    return getattr(cause, "strerror", None) or type(cause).__name__


def _code(body: bytes) -> str:
    """Read the code of a problem; another server's refusal may have none."""
    try:
        content = json.loads(body)
    except ValueError:
        return ""
    return str(content.get("code", "")) if isinstance(content, dict) else ""
