"""Serves the Open Inference Protocol v2 (KServe, Triton): each route of ours is a model under `/v2`."""

import asyncio
from collections.abc import Callable, Sequence
from functools import partial
from typing import Annotated, Any

from fastapi import Path
from fastapi.routing import APIRoute
from pydantic import BaseModel, TypeAdapter
from pydantic_core import to_json
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute
from starlette.types import Receive, Scope, Send

from service.answering import Answering, Written, own_rows
from service.compat.forms import INFERENCE, JSON
from service.compat.inference import InferRequest, InferResponse, Live, ModelMetadata, ModelReady, Ready, ServerMetadata
from service.compat.tensors import Signature, bodies, refused, signature, tensors_json, wanted
from service.docs import examples
from service.docs.openapi import CLIENTS, TASK_ERRORS, failures, operation, success
from service.docs.pages import installed_version
from service.engine.engine import Engine
from service.engine.errors import (
    InputTooLongError,
    InvalidRequestError,
    ModelNotLoadedError,
    NotReadyError,
    ServiceError,
)
from service.engine.model import Model, by_name
from service.errors import DrainingError, UnauthorizedError
from service.http.body import deadline, parse_json, read_body, validate, wait_until_gone
from service.http.gate import Lifecycle
from service.replies import milliseconds, server_timing
from service.routes import TaskRoute
from service.schemas import TaskRequest
from service.settings import Settings
from service.telemetry.context import Caller, current_request
from service.telemetry.stages import add_up, add_up_usage

BINARY = "application/octet-stream"
MEDIA_TYPES = (b"", BINARY.encode())  # Triton's client declares none, and KServe's this one for tensors in binary form
JSON_LENGTH = "Inference-Header-Content-Length"
MODEL, VERSION = "/v2/models/{name}", "/versions/{version}"
PARAMETERS = {"name": "a route of ours without its slash, or a model that is loaded", "version": "the model's revision"}


class Served:
    """Finds the models of the protocol: each route of ours stands for its task's default model, and each model's name
    for its task's first route.
    """

    def __init__(self, rows: Sequence[TaskRoute], engine: Engine, max_inputs: int) -> None:
        own = own_rows(rows)
        self.engine = engine
        self.signatures = {row.path: signature(row.body, row.response) for row in own.values()}
        self._answering = {name: Answering(row, engine, max_inputs) for name, row in own.items()}

    def find(self, name: str, version: str | None = None) -> tuple[Answering, Model]:
        """`version`: the revision of a bundle; without it, the default's. Raises: ModelNotLoadedError."""
        if answering := self._answering.get(name):
            of_task = [model for model in self.engine.models if model.bundle.task == answering.row.task]
            for model in of_task:
                if version in (None, model.bundle.revision):
                    return answering, model
        named = by_name(self.engine.models)
        for answering in self._answering.values():
            if found := named.get((answering.row.task, name if version is None else f"{name}@{version}")):
                return answering, found
        tasks = {model.bundle.task for model in self.engine.models}
        names = [name for name, answering in self._answering.items() if answering.row.task in tasks]
        raise ModelNotLoadedError(
            "no model of this name and version is loaded; name a route, whose default model answers "
            f"({', '.join(names)}), or one of the models that GET /info lists"
        )


class Endpoints:
    """Holds the endpoints of the protocol."""

    def __init__(self, rows: Sequence[TaskRoute], engine: Engine, lifecycle: Lifecycle, settings: Settings) -> None:
        self._served = Served(rows, engine, settings.max_inputs)
        self._lifecycle, self._settings = lifecycle, settings
        self._version = installed_version("halfdepth")

    def routes(self) -> list[BaseRoute]:
        """List the routes of the protocol."""
        access = (UnauthorizedError, DrainingError)
        found, ready = (ModelNotLoadedError, *access), (ModelNotLoadedError, NotReadyError, *access)
        return [
            InferRoute(f"{MODEL}{VERSION}/infer", infer_by_version, self._served, self._settings),
            InferRoute(f"{MODEL}/infer", infer, self._served, self._settings),
            _get("/v2", self.server, ServerMetadata, access),
            _get("/v2/health/live", self.live, Live, ()),
            _get("/v2/health/ready", self.ready, Ready, (NotReadyError, DrainingError)),
            *(_get(f"{model}/ready", self.model_ready, ModelReady, ready) for model in (f"{MODEL}{VERSION}", MODEL)),
            *(_get(model, self.model, ModelMetadata, found) for model in (f"{MODEL}{VERSION}", MODEL)),
        ]

    async def server(self) -> Response:
        """Tell what serves."""
        return _json(ServerMetadata(version=self._version))

    async def live(self) -> Response:
        """Tell whether the process runs."""
        return _json(Live())

    async def ready(self) -> Response:
        """Tell whether the service accepts requests."""
        self._check_ready()
        return _json(Ready())

    async def model_ready(self, request: Request) -> Response:
        """Tell whether a model accepts requests."""
        self._served.find(**request.path_params)
        self._check_ready()
        return _json(ModelReady(name=request.path_params["name"]))

    async def model(self, request: Request) -> Response:
        """Tell what a model takes and gives."""
        answering, model = self._served.find(**request.path_params)
        tensors = self._served.signatures[answering.row.path]
        return _json(
            ModelMetadata(
                name=request.path_params["name"],
                versions=[model.bundle.revision],
                inputs=list(tensors.inputs.values()),
                outputs=list(tensors.outputs.values()),
            )
        )

    def _check_ready(self) -> None:
        self._lifecycle.check_ready()
        self._served.engine.check_ready()


Name = Annotated[str, Path(description=PARAMETERS["name"])]
Version = Annotated[str, Path(description=PARAMETERS["version"])]


async def infer(name: Name, body: InferRequest) -> None:
    """Answer a batch of requests, each by itself, in order. Tensors may come and go in binary form behind the JSON,
    whose length the header `Inference-Header-Content-Length` tells.
    """


async def infer_by_version(name: Name, version: Version, body: InferRequest) -> None:
    """Answer a batch of requests by a revision of a model."""


class InferRoute(APIRoute):
    """Answers a batch. `documented` is never called: the request is read here, as JsonRoute reads its own."""

    def __init__(self, path: str, documented: Callable[..., Any], served: Served, settings: Settings) -> None:
        self._served = served
        self._max_body_bytes, self._max_inputs = settings.max_body_bytes, settings.max_inputs
        self._adapter: TypeAdapter[InferRequest] = TypeAdapter(InferRequest)
        super().__init__(
            path,
            documented,
            methods=["POST"],
            tags=[CLIENTS],
            response_model=InferResponse,
            responses=success("Server-Timing") | failures(*TASK_ERRORS, form=INFERENCE),
            openapi_extra=operation(None, examples.TENSORS),
        )
        self.app = self.answer

    async def answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        request, path = current_request.get(), scope["path_params"]
        headers: dict[bytes, bytes] = dict(scope["headers"])
        answering, model = self._served.find(**path)
        request.task, request.model = answering.row.task, model.id
        answer_by = deadline(headers.get(b"x-deadline-ms"), request.received)
        content = bytes(await read_body(scope["headers"], receive, self._max_body_bytes, also=MEDIA_TYPES))
        length = _json_length(headers.get(JSON_LENGTH.lower().encode()), content)
        asked: InferRequest = validate(self._adapter, parse_json(content[:length]), self._max_inputs)
        tensors = self._served.signatures[answering.row.path]
        forms = wanted(asked, tensors)
        batch = _read(answering, bodies(asked, content[length:], tensors), self._max_inputs)
        written = await _answer_all(answering, model, batch, answer_by, receive)
        request.usage = add_up_usage([answer.outcome.usage for answer in written])
        request.timings_ms = milliseconds(add_up([answer.outcome.stages for answer in written]))
        # On another thread, as a large answer would make the event loop deaf.
        response = await asyncio.to_thread(_response, asked, path["name"], model, written, tensors, forms)
        response.headers["Server-Timing"] = server_timing(request.timings_ms)
        await response(scope, receive, send)


def _json_length(header: bytes | None, content: bytes) -> int:
    """Tell where the JSON ends and tensors in binary form begin. Raises: InvalidRequestError."""
    if header is None:
        return len(content)
    if not header.isdigit() or int(header[:20]) > len(content):
        raise refused(JSON_LENGTH, "must be the length of the JSON at the beginning of the body, bytes")
    return int(header)


def _read(answering: Answering, contents: Sequence[object], limit: int) -> list[TaskRequest]:
    """Validate the bodies of a batch. Raises: InvalidRequestError."""
    if len(contents) > limit:
        raise InvalidRequestError(f"the batch holds {len(contents)} items where the limit is {limit}; split it")
    batch = []
    for index, content in enumerate(contents):
        try:
            batch.append(answering.read(content))
        except InvalidRequestError as error:
            raise _at(index, len(contents), error) from None
    return batch


async def _answer_all(
    answering: Answering, model: Model, batch: Sequence[TaskRequest], answer_by: int | None, receive: Receive
) -> list[Written]:
    """Answer each item of a batch by itself, as many at the same time as there are cores; one that fails ends all.

    Raises: as Engine.answer.
    """
    over = asyncio.Event()
    caller = Caller(answer_by, partial(_wait, over))
    written: dict[int, Written] = {}
    waiting = iter(enumerate(batch))

    async def watch() -> None:
        await wait_until_gone(receive)
        over.set()

    async def work() -> None:
        for index, body in waiting:
            try:
                written[index] = await answering.answer(body, model, caller)
            except (InputTooLongError, InvalidRequestError) as error:
                raise _at(index, len(batch), error) from error

    watching = asyncio.create_task(watch())
    workers = [asyncio.create_task(work()) for _ in range(min(answering.cores, len(batch)))]
    try:
        await asyncio.gather(*workers)
    finally:
        over.set()  # what the engine still does for the others is dropped
        for task in (watching, *workers):
            task.cancel()
    return [written[index] for index in range(len(batch))]


async def _wait(event: asyncio.Event) -> None:
    await event.wait()


def _at(index: int, count: int, error: ServiceError) -> ServiceError:
    """Name the item of a batch in the error, unless it is the only one."""
    return type(error)(f"item {index} of the batch: {error.detail}") if count > 1 else error


def _response(
    asked: InferRequest,
    name: str,
    model: Model,
    written: Sequence[Written],
    tensors: Signature,
    forms: dict[str, bool],
) -> Response:
    outputs, behind = tensors_json([answer.content for answer in written], tensors, forms)
    head = {"model_name": name, "model_version": model.bundle.revision} | ({"id": asked.id} if asked.id else {})
    content = b'%s,"outputs":[%s]}' % (to_json(head)[:-1], b",".join(outputs))
    if not any(forms.values()):
        return Response(content, media_type=JSON)
    return Response(b"".join([content, *behind]), headers={JSON_LENGTH: str(len(content))}, media_type=BINARY)


def _get(
    path: str, endpoint: Callable[..., Any], model: type[BaseModel], errors: Sequence[type[ServiceError]]
) -> APIRoute:
    parameters = [
        {"name": name, "in": "path", "required": True, "schema": {"type": "string"}, "description": PARAMETERS[name]}
        for name in PARAMETERS
        if f"{{{name}}}" in path
    ]
    return APIRoute(
        path,
        endpoint,
        tags=[CLIENTS],
        response_model=model,
        responses=success() | failures(*errors, form=INFERENCE),
        openapi_extra={"parameters": parameters} if parameters else None,
    )


def _json(content: BaseModel) -> Response:
    return Response(content.model_dump_json(), media_type=JSON)
