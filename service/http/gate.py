"""Lets requests in: from callers with a key, where keys are set, and none once the service drains."""

import hashlib
import hmac
from collections.abc import Collection
from queue import SimpleQueue
from typing import Literal

from starlette.types import Scope

from service.errors import DrainingError, UnauthorizedError

HEALTH = {"/health", "/health/live", "/health/ready", "/v2/health/live", "/v2/health/ready", "/ping"}
OPEN = HEALTH | {"/metrics"}  # to every caller, until the end


class Lifecycle:
    """The phases of the service: serving until the first signal; leaving, when only readiness says no; draining."""

    def __init__(self) -> None:
        self.phase: Literal["serving", "leaving", "draining"] = "serving"
        self.in_flight = 0  # requests of every kind that are not answered yet, counted by the middleware
        self.reloads: SimpleQueue[bool] = SimpleQueue()  # True asks for the bundles to be looked at again

    def check_ready(self) -> None:
        """Tell load balancers, from the first signal on, to send no more requests. Raises: DrainingError."""
        if self.phase != "serving":
            raise DrainingError("this replica is shutting down; send requests to another one")

    def check_open(self) -> None:
        """Refuse requests that come while the service drains. Raises: DrainingError."""
        if self.phase == "draining":
            raise DrainingError("this replica is shutting down; retry on another one")


class Gate:
    """Decides on a request before anything but its head is read."""

    def __init__(self, lifecycle: Lifecycle, keys: Collection[str] = ()) -> None:
        """Without keys, every caller is let in."""
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
        """Compare every key, by digests of one length, so that the time does not depend on what was sent.

        Raises: UnauthorizedError.
        """
        sent = next((value for name, value in scope["headers"] if name == b"authorization"), b"")
        scheme, _, key = sent.partition(b" ")
        digest = _digest(key.strip())
        matches = [hmac.compare_digest(digest, known_digest) for known_digest in self._digests]
        if scheme.lower() != b"bearer" or not any(matches):
            raise UnauthorizedError("send one of the service's keys in the header Authorization: Bearer KEY")


def _digest(key: bytes) -> bytes:
    return hashlib.sha256(key).digest()
