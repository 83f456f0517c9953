"""Who is let in: callers with a key, where keys are set; nobody once the service drains; none that finds no room."""

import hashlib
import hmac
from collections.abc import Callable, Collection

from starlette.types import Scope

from models.tasks.bundle import TaskName
from service.errors import UnauthorizedError
from service.lifecycle import Lifecycle

OPEN = {"/health/live", "/health/ready", "/metrics"}  # to everybody, until the end


class Gate:
    """Asked before anything of a request is read but its head: under twice the load, half of all requests get no
    further, and each takes the cores from one that does (docs/log.md).
    """

    def __init__(
        self,
        lifecycle: Lifecycle,
        keys: Collection[str] = (),
        check_room: Callable[[TaskName, int], None] = lambda _task, _bytes: None,
    ) -> None:
        """Without keys everybody is let in. `check_room` is told the task and the declared length of the body."""
        self.lifecycle = lifecycle
        self._check_room = check_room
        self._digests = [_digest(key.encode()) for key in keys]

    def check(self, scope: Scope, task: TaskName | None = None) -> None:
        """Raises: UnauthorizedError, DrainingError, QueueFullError."""
        path = scope["path"]
        if path in OPEN:
            return
        if self._digests and not (path == "/" or path.startswith("/playground/")):  # where a key is typed in
            self._check_key(scope)
        self.lifecycle.check_open()
        if task is not None and (length := _header(scope, b"content-length")).isdigit():
            self._check_room(task, int(length))

    def _check_key(self, scope: Scope) -> None:
        """In the same time whatever was sent: every key is compared, by digests of one length."""
        sent = _header(scope, b"authorization")
        scheme, _, key = sent.partition(b" ")
        digest = _digest(key.strip())
        known = [hmac.compare_digest(digest, each) for each in self._digests]
        if scheme.lower() != b"bearer" or not any(known):
            raise UnauthorizedError(
                "send one of the service's keys in the header Authorization: Bearer KEY",
                headers={"WWW-Authenticate": 'Bearer realm="halfdepth"'},
            )


def _header(scope: Scope, name: bytes) -> bytes:
    return next((value for each, value in scope["headers"] if each == name), b"")


def _digest(key: bytes) -> bytes:
    return hashlib.sha256(key).digest()
