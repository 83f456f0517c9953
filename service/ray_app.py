"""Serves the same routes from a Ray cluster: each replica is an engine with one core of its own.

`serve run service.ray_app:application bundles=/shared/bundles max_replicas=8`, or by a file that `serve build` writes.
"""

from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, model_validator
from ray import serve
from starlette.types import ASGIApp, Receive, Scope, Send

from service.app import create_app
from service.settings import Settings
from service.startup.loading import load_engine
from service.telemetry.logs import configure_logging

NAME = "halfdepth"


class RayOptions(BaseModel):
    """How many replicas there are, and when there are more. The service's own settings are environment variables."""

    model_config = ConfigDict(extra="forbid")

    bundles: Annotated[
        Path | None, Field(description="directory of bundles, which every node has; left out, HALFDEPTH_BUNDLES")
    ] = None
    min_replicas: Annotated[int, Field(ge=1, description="replicas that are always there")] = 1
    max_replicas: Annotated[int, Field(ge=1, description="most replicas; each takes a core")] = 4
    target_ongoing_requests: Annotated[
        float,
        Field(gt=0, description="requests in a replica, queued ones too, above which there shall be more replicas"),
    ] = 2.0
    max_ongoing_requests: Annotated[
        int, Field(ge=1, description="requests that a replica has at a time; more wait in Ray's proxy")
    ] = 16
    upscale_delay_s: Annotated[float, Field(ge=0, description="how long the load must last for more replicas")] = 5.0
    downscale_delay_s: Annotated[float, Field(ge=0, description="how long it must be gone for fewer")] = 60.0
    drain_s: Annotated[float, Field(ge=0, description="how long a replica that is to end may finish its requests")] = (
        20.0
    )

    @model_validator(mode="after")
    def _check_replicas(self) -> "RayOptions":
        if self.min_replicas > self.max_replicas:
            raise ValueError("min_replicas must be at most max_replicas")
        return self


class Replica:
    """Holds an engine of one core, and the application over it. Ray calls it by the names of its methods."""

    def __init__(self, options: RayOptions) -> None:
        bundles: dict[str, Any] = {} if options.bundles is None else {"bundles": options.bundles, "models": ()}
        settings = Settings(**bundles, threads=1)
        configure_logging(settings.log_format)
        self._engine = load_engine(settings)
        self._app = create_app(settings, self._engine)

    def __serve_build_asgi_app__(self) -> ASGIApp:
        """Hide from Ray that the application is FastAPI's, to whose layers it would add."""

        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            await self._app(scope, receive, send)

        return app

    def check_health(self) -> None:
        """Let Ray replace this replica while a run hangs. Raises: NotReadyError."""
        self._engine.check_ready()


def application(options: RayOptions) -> serve.Application:
    """Make the application that `serve.run` deploys."""
    deployment = serve.deployment(
        serve.ingress()(Replica),
        name=NAME,
        max_ongoing_requests=options.max_ongoing_requests,
        autoscaling_config={
            "min_replicas": options.min_replicas,
            "max_replicas": options.max_replicas,
            "target_ongoing_requests": options.target_ongoing_requests,
            "upscale_delay_s": options.upscale_delay_s,
            "downscale_delay_s": options.downscale_delay_s,
        },
        ray_actor_options={"num_cpus": 1},
        graceful_shutdown_timeout_s=options.drain_s,
        health_check_period_s=2,
    )
    return deployment.bind(options)
