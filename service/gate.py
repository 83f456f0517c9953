"""Who is let in: callers with a key, where keys are set, and nobody once the service drains."""

import hashlib
import hmac
from collections.abc import Collection

from starlette.types import Scope

from service.errors import UnauthorizedError
from service.lifecycle import Lifecycle

OPEN = {"/health/live", "/health/ready", "/metrics"}  # to everybody, until the end


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
