"""Serves questions in the simplest way that anybody would write, to be compared with the service.

FastAPI, and an endpoint that tokenizes, runs the graph and takes the best span on the event loop. It checks two
strings and nothing else: no windows, no queue, no timings, no log. One process for each core is its best form.
"""

import os
from pathlib import Path

import uvicorn
from fastapi import FastAPI
from pydantic import BaseModel

from loadtest.bench.inline import open_inline
from models.tasks.remote.address import DEFAULT_HOST


class Question(BaseModel):
    question: str
    context: str


def create_app(bundle: Path, *, exact_products: bool = False) -> FastAPI:
    answer = open_inline(bundle, exact_products=exact_products)
    app = FastAPI()

    @app.post("/qa")
    async def qa(body: Question) -> dict[str, object]:
        return answer(body.question, body.context)

    @app.get("/health/ready")
    async def ready() -> dict[str, str]:
        return {"status": "ok"}

    return app


if __name__ == "__main__":
    port, bundle = int(os.environ["PLAIN_PORT"]), Path(os.environ.get("PLAIN_BUNDLE", "bundles/qa"))
    app = create_app(bundle, exact_products=bool(os.environ.get("PLAIN_EXACT")))
    uvicorn.run(app, host=DEFAULT_HOST, port=port, access_log=False, log_level="error")
