"""Carries what users shall do from the command to Locust's processes, on other machines too: as JSON."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from functools import cache
from itertools import cycle
from random import Random
from typing import Any

from loadtest.payloads import bodies
from loadtest.routes import Route
from loadtest.users.shapes import Shape

Request = tuple[str, Mapping[str, Any]]  # a path, and its JSON


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """Describes the load. `payloads`, where there are any, are sent instead of what is made for the routes.

    `rate`: requests a second in an open loop; None is a closed loop of `users`. `workers`: Locust's processes.
    """

    routes: tuple[Route, ...]
    payloads: tuple[Request, ...] = ()
    shape: Shape = "steady"
    seconds: float = 60.0
    users: int = 8
    rate: float | None = None
    workers: int = 1
    timeout_s: float = 30.0

    def text(self) -> str:
        return json.dumps(asdict(self))

    @property
    def paths(self) -> list[str]:
        """What is asked, each once."""
        if self.payloads:
            return list(dict.fromkeys(path.partition("?")[0] for path, _ in self.payloads))
        return [route.path for route in self.routes]

    def requests_of_user(self, number: int) -> Iterator[Request]:
        """Make the requests of a user: of one route, which users take in turn, or payloads in an order of its own."""
        if self.payloads:
            return self._shuffled(number)
        route = self.routes[number % len(self.routes)]
        return ((route.path, body) for body in bodies(route, number))

    def requests_of_all(self, number: int) -> Iterator[Request]:
        """Make the requests of a process in an open loop: the routes in turn, or the payloads in random order."""
        if self.payloads:
            return self._shuffled(number)
        return self._in_turn(number)

    def _in_turn(self, number: int) -> Iterator[Request]:
        makers = [(route.path, bodies(route, number)) for route in self.routes]
        for path, maker in cycle(makers):
            yield path, next(maker)

    def _shuffled(self, seed: int) -> Iterator[Request]:
        random, payloads = Random(seed), list(self.payloads)
        while True:
            random.shuffle(payloads)
            yield from payloads


@cache
def read_plan(text: str) -> Plan:
    """Read what `Plan.text` wrote."""
    content = json.loads(text)
    routes = tuple(Route(**route) for route in content.pop("routes"))
    payloads = tuple((path, body) for path, body in content.pop("payloads"))
    return Plan(routes=routes, payloads=payloads, **content)
