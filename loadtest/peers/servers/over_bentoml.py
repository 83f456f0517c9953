"""Serves questions by BentoML over onnxruntime.

Settings: a worker for each core, each with a session of one thread; a synchronous method, which BentoML runs in a
thread of the worker. No adaptive batching: batches gain nothing for int8 on a CPU. Access log and metrics off.
Source: https://docs.bentoml.com/en/latest/build-with-bentoml/parallelize-requests.html
and https://docs.bentoml.com/en/latest/reference/bentoml/configurations.html
"""

import os
import sys

import bentoml

from loadtest.bench.inline import Reply, open_inline
from loadtest.peers.servers.assignment import HOST, read_assignment


@bentoml.service(workers=read_assignment().cores, logging={"access": {"enabled": False}}, metrics={"enabled": False})
class Questions:
    """Answers one question at a time in each worker."""

    def __init__(self) -> None:
        self.answer = open_inline(read_assignment().model)

    @bentoml.api(route="/qa")
    def qa(self, question: str, context: str) -> Reply:
        return self.answer(question, context)


if __name__ == "__main__":
    service = "loadtest.peers.servers.over_bentoml:Questions"
    port = str(read_assignment().port)
    os.execv(sys.executable, [sys.executable, "-m", "bentoml", "serve", service, "--host", HOST, "--port", port])
