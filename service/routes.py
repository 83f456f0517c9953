"""What each route answers."""

import platform
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from pydantic import BaseModel
from starlette.responses import Response

from models.tasks import qa
from models.tasks.bundle import TaskName
from service.context import current_request
from service.engine import AnyModel, Engine, Outcome
from service.schemas import (
    BundleInfo,
    Health,
    Info,
    QAItem,
    QAListResponse,
    QARequest,
    QAResponse,
    TaskResponse,
)
from service.telemetry import add_up_stages, add_up_usage, server_timing

LIBRARIES = ("halfdepth", "onnxruntime", "tokenizers")


class Routes:
    """The endpoints over one engine."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine

    async def qa(self, body: QARequest) -> Response:
        """Answer a question, or several, out of the context that comes with each."""
        model = {"model": self.engine.model("qa").bundle}
        if isinstance(body, QAItem):
            outcome = await self.engine.answer("qa", body.to_input())
            return _reply("qa", QAResponse.model_validate(_qa_result(outcome) | model))
        outcomes = await self.engine.answer_all("qa", [item.to_input() for item in body.inputs])
        totals = _totals(outcomes) | model
        return _reply(
            "qa", QAListResponse.model_validate({"results": [_qa_result(each) for each in outcomes]} | totals)
        )

    async def live(self) -> Response:
        """The process runs."""
        return _json(Health())

    async def ready(self) -> Response:
        """The service takes requests."""
        self.engine.pool.check_open()
        return _json(Health())

    async def info(self) -> Response:
        """Versions, loaded bundles, chosen threads."""
        versions = {name: _version(name) for name in LIBRARIES} | {"python": platform.python_version()}
        bundles = [_bundle_info(model) for model in self.engine.models.values()]
        return _json(Info(versions=versions, threads=self.engine.threads, bundles=bundles))


def _qa_result(outcome: Outcome[qa.QAResult]) -> dict[str, Any]:  # fields for pydantic, which checks them
    return {
        "answers": outcome.result.answers,
        "no_answer_score": outcome.result.no_answer_score,
        "usage": outcome.usage,
        "timings_ms": outcome.stages.milliseconds(),
    }


def _totals(outcomes: list[Outcome[Any]]) -> dict[str, Any]:
    return {
        "usage": add_up_usage([each.usage for each in outcomes]),
        "timings_ms": add_up_stages([each.stages for each in outcomes]).milliseconds(),
    }


def _reply(task: TaskName, response: TaskResponse) -> Response:
    request = current_request.get()
    request.task, request.usage, request.timings_ms = task, response.usage, response.timings_ms
    return _json(response, {"Server-Timing": server_timing(response.timings_ms)})


def _json(content: BaseModel, headers: dict[str, str] | None = None) -> Response:
    return Response(content.model_dump_json(), headers=headers, media_type="application/json")


def _bundle_info(model: AnyModel) -> BundleInfo:
    bundle, task = model.bundle, model.task
    return BundleInfo(
        task=bundle.task,
        name=bundle.name,
        revision=bundle.revision,
        precision=bundle.precision,
        no_answer=task.no_answer_threshold is not None if isinstance(task, qa.QuestionAnswering) else None,
    )


def _version(distribution: str) -> str:
    try:
        return version(distribution)
    except PackageNotFoundError:  # halfdepth run from a checkout that was never installed
        return "not installed"
