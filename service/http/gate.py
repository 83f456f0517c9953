"""Who is let in: callers with a key, where keys are set, and nobody once the service drains."""

import hashlib
import hmac
from collections.abc import Collection
from typing import Literal

from starlette.types import Scope

from service.errors import DrainingError, UnauthorizedError

RETRY_AFTER = {"Retry-After": "1"}  # of seconds; by then another replica has the caller's next connection
OPEN = {"/health/live", "/health/ready", "/metrics"}  # to everybody, until the end


class Lifecycle:
    """Serving until the first signal; then leaving, when only readiness says no; then draining."""

    def __init__(self) -> None:
        self.phase: Literal["serving", "leaving", "draining"] = "serving"
        self.in_flight = 0  # requests of every kind that are not answered yet, counted by the middleware

    def check_ready(self) -> None:
        """For load balancers, which should send no more from the first signal on. Raises: DrainingError."""
        if self.phase != "serving":
            raise DrainingError("this replica is about to end; send requests to another", headers=RETRY_AFTER)

    def check_open(self) -> None:
        """For requests. Raises: DrainingError."""
        if self.phase == "draining":
            raise DrainingError(
                "this replica is ending; send the request again, to another",
                headers=RETRY_AFTER | {"Connection": "close"},
            )


class Gate:
    """Asked before anything of a request is read but its head."""

    def __init__(self, lifecycle: Lifecycle, keys: Collection[str] = ()) -> None:
        """Without keys everybody is let in."""
        self.lifecycle = lifecycle
        self._digests = [_digest(key.encode()) for key in keys]

    def check(self, scope: Scope) -> None:
        """Raises: UnauthorizedError, DrainingError."""
        path = scope["path"]
        if path in OPEN:
            return
        if self._digests and not (path == "/" or path.startswith("/playground/")):  # where a key is typed in
            self._check_key(scope)
        self.lifecycle.check_open()

    def _check_key(self, scope: Scope) -> None:
        """In the same time whatever was sent: every key is compared, by digests of one length."""
        sent = next((value for name, value in scope["headers"] if name == b"authorization"), b"")
        scheme, _, key = sent.partition(b" ")
        digest = _digest(key.strip())
        known = [hmac.compare_digest(digest, each) for each in self._digests]
        if scheme.lower() != b"bearer" or not any(known):
            raise UnauthorizedError(
                "send one of the service's keys in the header Authorization: Bearer KEY",
                headers={"WWW-Authenticate": 'Bearer realm="halfdepth"'},
            )


def _digest(key: bytes) -> bytes:
    return hashlib.sha256(key).digest()
