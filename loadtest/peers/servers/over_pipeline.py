"""Serves questions by FastAPI over transformers' pipeline: PyTorch, fp32.

Settings: one process of one thread for each core, because the pipeline is synchronous and keeps Python's lock; the
endpoint calls it on the event loop, which costs least. Batch size 1, as transformers advises on a CPU.
Source: https://huggingface.co/docs/transformers/v4.57.6/pipeline_webserver
"""

from typing import Any

import torch
import uvicorn
from fastapi import FastAPI
from pydantic import BaseModel
from transformers import pipeline

from loadtest.peers.servers.assignment import HOST, read_assignment


class Question(BaseModel):
    question: str
    context: str


def create_app(answer: Any) -> FastAPI:  # a pipeline: transformers has no common type
    app = FastAPI()

    @app.post("/qa")
    async def qa(body: Question) -> dict[str, Any]:
        reply: dict[str, Any] = answer(question=body.question, context=body.context)
        return reply

    return app


if __name__ == "__main__":
    assignment = read_assignment()
    torch.set_num_threads(1)
    answer = pipeline("question-answering", model=str(assignment.model), device="cpu")
    uvicorn.run(create_app(answer), host=HOST, port=assignment.port, access_log=False, log_level="error")
