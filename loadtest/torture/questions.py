"""Makes requests to every route, of mixed lengths, each with the answer that it gets alone."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any

from loadtest.connection import Connection, get, post
from loadtest.payloads import bodies
from loadtest.process import LoadTestError
from loadtest.routes import read_routes
from models.tasks.remote.client import Client

CHANGING = re.compile(rb'"timings_ms":\{[^{}]*\},?|"id":"[^"]*",?')  # the id is the request's
PAGES = ("/info", "/metrics", "/health/live", "/v1/models", "/v2")  # what they say may change from one to the next
INFER = "/v2/models/{name}/infer"
INVOCATIONS = "/invocations"  # in no OpenAPI document, for its body is any other route's


@dataclass(frozen=True, slots=True)
class Question:
    """A request, and the body of the answer that it got alone, without timings; None where that may change.

    `route`: as the service's log names it. `has_task`: the service's metrics count it.
    """

    route: str
    request: bytes
    has_task: bool = True
    answer: bytes | None = None


def questions(client: Client, per_route: int, seed: int) -> list[Question]:
    """Make so many requests of each of the service's own routes that differ, and one of every other POST and page.

    Raises: ClientError; LoadTestError if a request is not answered with 200, or not twice the same.
    """
    routes = read_routes(client)
    made = [
        Question(route.path, post(route.path, body))
        for route in routes
        for body in islice(bodies(route, seed), per_route)
    ]
    if first := next(iter(routes), None):
        named = {"x_amzn_sagemaker_custom_attributes": f"route={first.path}"}
        made.append(Question(INVOCATIONS, post(INVOCATIONS, next(bodies(first, seed + 1)), **named)))
    tasks, known = {route.task for route in routes}, {route.path for route in routes}
    for path, example in _examples(client):
        task = example.task
        if path not in known and (task in tasks or (path == INFER and "qa" in tasks)):
            made.append(Question(path, post(path.replace("{name}", "qa"), example.body)))
    made += [Question(path, get(path), has_task=False) for path in PAGES]
    return alone(client.url, made)


def alone(url: str, asked: Sequence[Question]) -> list[Question]:
    """Ask one by one, and write down the answers. Raises: LoadTestError, OSError."""
    with Connection(url) as connection:
        answered = []
        for question in asked:
            first, second = connection.ask(question.request), connection.ask(question.request)
            if {first.status, second.status} != {200}:
                raise LoadTestError(f"{question.route} answers {first.status} and {second.status} to a request alone")
            if question.has_task and untimed(first.body) != untimed(second.body):
                raise LoadTestError(f"{question.route} does not answer the same request twice the same")
            answered.append(replace(question, answer=untimed(first.body) if question.has_task else None))
    return answered


def untimed(body: bytes) -> bytes:
    """Leave the timings and the request's id out of a body; all else stays, byte by byte."""
    return CHANGING.sub(b"", body)


@dataclass(frozen=True, slots=True)
class _Example:
    task: str | None
    body: Any  # JSON of any form


def _examples(client: Client) -> Iterator[tuple[str, _Example]]:
    """Find the first example of each POST in the OpenAPI document. Raises: ClientError."""
    for path, operations in client.get("/openapi.json")["paths"].items():
        if "post" in operations:
            post_of = operations["post"]
            content = post_of["requestBody"]["content"]["application/json"]
            yield path, _Example(post_of.get("x-task"), next(iter(content["examples"].values()))["value"])
