"""Makes a run raise, hang, or go on beyond its cancellation, and kills workers."""

from collections.abc import Callable
from http import HTTPStatus
from time import sleep

from loadtest.process import LoadTestError
from loadtest.torture.fault import INFERENCE_FAILED, Fault, answered
from loadtest.torture.sabotaged import INLINE, WORKER
from loadtest.torture.target import POLL_S, Scene, until

FAILED = HTTPStatus.INTERNAL_SERVER_ERROR


def fails(order: str, place: str) -> Callable[[Scene], None]:
    """Make the next run at this place fail its request, and wait until it has."""

    def do(scene: Scene) -> None:
        failed = answered(scene.load.tally, FAILED)
        scene.target.order(f"{order} {place}")
        until(lambda: answered(scene.load.tally, FAILED) > failed, f"no request has failed by: {order} {place}")

    return do


def stuck_inline(scene: Scene) -> None:
    """Let a run on the event loop's thread go on for ever: the process ends, and is started again."""
    scene.target.order(f"stuck {INLINE}")
    if (status := scene.target.ended()) != 1:
        raise LoadTestError(f"the service ended with {status}")
    scene.target.start()


def stuck_on_a_worker(scene: Scene) -> None:
    """Let a worker's run go on beyond its cancellation: readiness tells, another thread takes its place, then all is
    well again.
    """
    replaced = scene.target.logged(REPLACED)
    fails("stuck", WORKER)(scene)
    until(lambda: scene.target.logged(REPLACED) > replaced, "no other thread has replaced the worker")
    if scene.target.is_ready():
        raise LoadTestError("the service is ready while a run hangs")
    scene.target.order("release")
    until(scene.target.is_ready, "the service is not ready again")


def kill_workers(scene: Scene) -> None:
    """Throw an exception into every worker until one has died of it: within a run, it fails that run alone."""
    died = scene.target.logged(DIED)
    while scene.target.logged(DIED) == died:
        scene.target.order(f"kill {WORKER}")
        sleep(POLL_S)


REPLACED = "another thread has replaced its worker"
DIED = "a worker died and is replaced"

FAULTS = (
    Fault("a run raises on the event loop", fails("raise", INLINE), allowed=INFERENCE_FAILED),
    Fault("a run raises on a worker", fails("raise", WORKER), allowed=INFERENCE_FAILED),
    Fault("a run hangs on the event loop", fails("hang", INLINE), allowed=INFERENCE_FAILED),
    Fault("a run hangs on a worker", fails("hang", WORKER), allowed=INFERENCE_FAILED),
    Fault("a run cannot be cancelled on the event loop", stuck_inline, INFERENCE_FAILED, closes=True, restarts=True),
    Fault("a run cannot be cancelled on a worker", stuck_on_a_worker, allowed=INFERENCE_FAILED),
    Fault("workers are killed", kill_workers, allowed=INFERENCE_FAILED),
)
