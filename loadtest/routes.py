"""Reads the service's table of routes over HTTP, with an example for every route."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from models.tasks.remote.client import Client

PROBLEM = "application/problem+json"


@dataclass(frozen=True, slots=True)
class Route:
    """Describes a POST of the service itself, not one in the form of other people's clients."""

    path: str
    task: str
    example: Mapping[str, Any]  # a request's body
    model: str | None = None  # which its bodies name

    @property
    def choice(self) -> dict[str, str]:
        """The field that names the model, to be added to a body."""
        return {} if self.model is None else {"model": self.model}


def read_routes(client: Client, model: str | None = None) -> list[Route]:
    """List the routes whose task has a bundle there; with `model`, those whose task has one of this name or directory,
    which then name it. Raises: ClientError.
    """
    paths = client.get("/openapi.json")["paths"]
    bundles = client.get("/info")["bundles"]
    tasks = {bundle["task"] for bundle in bundles if model is None or model in (bundle["name"], bundle["directory"])}
    posts = {path: operations["post"] for path, operations in paths.items() if "post" in operations}
    return [
        Route(path, post["x-task"], _first_example(post), model)
        for path, post in posts.items()
        if post.get("x-task") in tasks and PROBLEM in post["responses"]["422"]["content"]
    ]


def post_paths(client: Client) -> list[str]:
    """List every POST of the service, those in other people's forms too: `/v2/models/{name}/infer`.

    Raises: ClientError.
    """
    paths = client.get("/openapi.json")["paths"]
    return [path for path, operations in paths.items() if "post" in operations]


def read_all_routes(client: Client, model: str | None) -> list[Route]:
    """List the routes whose task has a bundle there; those whose task has `model` name it. Raises: ClientError."""
    naming = {route.path: route for route in read_routes(client, model)}
    return [naming.get(route.path, route) for route in read_routes(client)]


def _first_example(post: Mapping[str, Any]) -> Mapping[str, Any]:  # a part of an OpenAPI document
    examples = post["requestBody"]["content"]["application/json"]["examples"]
    body: Mapping[str, Any] = next(iter(examples.values()))["value"]
    return body
