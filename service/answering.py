"""Answers a body as its route does, for callers that come by another way than the route itself."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import TypeAdapter

from service.engine.engine import Engine
from service.engine.model import Model
from service.engine.request import Outcome
from service.http.body import validate
from service.replies import Answered, milliseconds
from service.routes import TaskRoute
from service.schemas import TaskRequest
from service.telemetry.context import Caller


@dataclass(frozen=True, slots=True)
class Written:
    """An answer: the JSON that the route would send, what it took, and the model that gave it."""

    content: bytes
    outcome: Outcome
    model: Model


class Answering:
    """Answers the bodies of one route by an engine."""

    def __init__(self, row: TaskRoute, engine: Engine, max_inputs: int) -> None:
        self.row = row
        self.cores = engine.queue.cores
        self._engine, self._max_inputs = engine, max_inputs
        self._adapter: TypeAdapter[Any] = TypeAdapter(row.body)

    def read(self, content: object) -> TaskRequest:
        """Raises: InvalidRequestError."""
        body: TaskRequest = validate(self._adapter, content, self._max_inputs)
        return body

    async def answer(self, body: TaskRequest, model: Model | None = None, caller: Caller | None = None) -> Written:
        """Answer a body by the model that it names, unless one is given. Raises: as Engine.answer."""
        call = self.row.handler(body)
        model = model or self._engine.model(self.row.task, body.model, or_default=not self.row.is_ours)
        outcome = await self._engine.answer_all(model, call.items, call.combine, caller, call.combine_some)
        answered = Answered(outcome.result, outcome.usage, milliseconds(outcome.stages), model.bundle)
        return Written(call.write(answered), outcome, model)


def own_rows(rows: Sequence[TaskRoute]) -> dict[str, TaskRoute]:
    """Find our own routes by their names, the last parts of their paths."""
    return {row.name: row for row in rows if row.is_ours}
