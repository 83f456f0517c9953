"""Amazon SageMaker's protocol: `POST /invocations`, which has the form of one of our own routes."""

import re
from collections.abc import Callable, Collection, Sequence
from typing import Protocol

from fastapi.routing import APIRoute
from starlette.types import Receive, Scope, Send

from models.tasks.base import TaskName
from service.engine.errors import InvalidField, InvalidRequestError
from service.telemetry.context import current_request

PATH = "/invocations"
HEADER = b"x-amzn-sagemaker-custom-attributes"
ROUTE = re.compile(rb"route=(/?[a-z]+)")


class OwnRoute(Protocol):
    """Declares what is needed of a task's route in our form."""

    path: str
    task: TaskName

    async def answer(self, scope: Scope, receive: Receive, send: Send) -> None: ...


class Invocations(APIRoute):
    """Passes a request on to the only one of our routes that is served, or to the one that its header names.

    SageMaker hands over what a client sends as CustomAttributes: `route=/embed`.
    """

    path: str
    task: TaskName | None = None

    def __init__(self, routes: Sequence[OwnRoute], served_tasks: Callable[[], Collection[TaskName]]) -> None:
        self._routes, self._served_tasks = routes, served_tasks
        super().__init__(PATH, _never_called, methods=["POST"], include_in_schema=False)
        self.app = self.answer

    async def answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Raises: InvalidRequestError if it is not clear which route is meant, and whatever that route raises."""
        route = self._route(dict(scope["headers"]).get(HEADER, b""))
        current_request.get().task = route.task
        await route.answer(scope, receive, send)

    def _route(self, attributes: bytes) -> OwnRoute:
        served = self._served_tasks()
        routes = {route.path: route for route in self._routes if route.task in served}
        named = ROUTE.search(attributes)
        if named is None and len(routes) == 1:
            return next(iter(routes.values()))
        path = f"/{named[1].decode().removeprefix('/')}" if named else ""
        if path in routes:
            return routes[path]
        message = f"name one of the routes of this container, as in route=/qa: {', '.join(routes)}"
        name = "X-Amzn-SageMaker-Custom-Attributes"
        raise InvalidRequestError(f"{name}: {message}", errors=[InvalidField(field=name, message=message)])


def _never_called() -> None: ...
