"""Serves questions by Ray Serve over onnxruntime.

Settings: a replica for each core, each with a session of one thread; HAProxy in front and the options for throughput
(RAY_SERVE_ENABLE_HA_PROXY, RAY_SERVE_THROUGHPUT_OPTIMIZED), which the registry sets. No dashboard, no
usage statistics.
Source: https://docs.ray.io/en/latest/serve/advanced-guides/performance.html
"""

import signal
from pathlib import Path
from typing import Any

import ray
from ray import serve
from starlette.requests import Request
from starlette.responses import JSONResponse

from loadtest.bench.inline import open_inline
from loadtest.peers.servers.assignment import HOST, read_assignment


@serve.deployment
class Questions:
    """Answers one question at a time in each replica."""

    def __init__(self, model: str) -> None:
        self.answer = open_inline(Path(model))

    async def __call__(self, request: Request) -> JSONResponse:
        body = await request.json()
        return JSONResponse(self.answer(body["question"], body["context"]))


if __name__ == "__main__":
    assignment = read_assignment()
    ray.init(num_cpus=assignment.cores, include_dashboard=False, object_store_memory=100_000_000)
    serve.start(http_options={"host": HOST, "port": assignment.port})
    deployment: Any = Questions  # what the decorator makes of it
    replicas = deployment.options(num_replicas=assignment.cores, ray_actor_options={"num_cpus": 1})
    serve.run(replicas.bind(str(assignment.model)), route_prefix="/qa")
    signal.sigwait({signal.SIGTERM, signal.SIGINT})
    serve.shutdown()
    ray.shutdown()
