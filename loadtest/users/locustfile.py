"""Defines Locust's user, who asks one of the routes; stages of `Server-Timing` have separate rows.

Times of stages are logged only to their row, not by Locust's event, so that the totals count nothing but requests.
Locust's CSV rounds percentiles down to whole milliseconds, but not averages; its HTML rounds neither.
"""

from argparse import ArgumentParser
from collections.abc import Iterator
from functools import cache
from http import HTTPStatus
from itertools import count
from random import Random

import locust.stats
from locust import FastHttpUser, events, task

from loadtest.payloads import bodies
from loadtest.routes import Route, read_routes
from models.tasks.remote.client import Client, client_key, key_headers, refusal

PAUSE_S = 0.1  # of a user between an answer and its next request, on the average
STAGE = "STAGE"  # in the column that holds a request's method
REFUSED = {HTTPStatus.SERVICE_UNAVAILABLE, HTTPStatus.GATEWAY_TIMEOUT}


def three_figures(milliseconds: float) -> float:
    """Round a time to three figures: Locust rounds to whole milliseconds, and a tokenization takes a fifth of one."""
    return float(f"{milliseconds:.3g}")


locust.stats.bucket_response_time = three_figures  # type: ignore[assignment]  # declared int, and documented as free


def stages(server_timing: str) -> Iterator[tuple[str, float]]:
    """Split `queue;dur=0.041, tokenization;dur=0.345` into names and milliseconds."""
    for metric in server_timing.split(", "):
        name, _, duration = metric.partition(";dur=")
        yield name, float(duration)


def add_model(parser: ArgumentParser) -> None:
    parser.add_argument("--model", help="name of the model to ask, on the routes of its task")


events.init_command_line_parser.add_listener(add_model)  # type: ignore[no-untyped-call]  # Locust annotates no events


@cache
def routes_of(url: str, model: str | None) -> list[Route]:
    """Read the routes of the service once for all users."""
    return read_routes(Client(url, client_key(None)), model)


class RouteUser(FastHttpUser):
    """Asks one route over and over; users take the routes in turn."""

    _started = count()

    def on_start(self) -> None:
        number, routes = next(self._started), routes_of(self.host, self.environment.parsed_options.model)
        self._route = routes[number % len(routes)]
        self._headers = key_headers(client_key(None))
        self._bodies, self._random = bodies(self._route, number), Random(number)

    def wait_time(self) -> float:
        """Draw an exponential pause: after equal pauses, all users would ask at once, again and again."""
        return self._random.expovariate(1 / PAUSE_S)

    @task
    def ask(self) -> None:
        path = self._route.path
        with self.client.post(path, json=next(self._bodies), headers=self._headers, catch_response=True) as response:
            if response.status_code == HTTPStatus.OK:
                for name, milliseconds in stages(response.headers["server-timing"]):
                    self.environment.stats.get(f"{path} · {name}", STAGE).log(milliseconds, 0)
            elif response.status_code in REFUSED:
                response.failure(f"refused: {response.status_code} {response.json()['code']}")
            else:
                response.failure(f"failed: {refusal(response.status_code, response.content or b'')}")
