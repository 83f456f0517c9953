"""Opens what the service listens on: a Unix socket, or one of IPv6 and IPv4; uvicorn opens all others."""

import logging
import socket
import stat
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from models.tasks.errors import first_line
from models.tasks.remote.address import is_unspecified
from service.settings import Settings

logger = logging.getLogger("service")

STARTUP_FAILURE = 3  # uvicorn's own status
EVERYONE = 0o666  # as a TCP port of this machine; the directory decides who may reach it
BACKLOG = 2048  # uvicorn's own


@contextmanager
def listening_sockets(settings: Settings) -> Iterator[list[socket.socket] | None]:
    """Open the socket of HALFDEPTH_UDS, which is removed at the end of the block, or of IPv6 and IPv4 at `::`.

    asyncio would serve IPv6 alone there, so that health checks at 127.0.0.1 fail. None where uvicorn shall open its
    own. Exits with 3 if the address is taken, as uvicorn does.
    """
    try:
        if settings.uds is None:
            _check_host(settings.host)
        opened = _unix_socket(settings.uds) if settings.uds else _dual_stack(settings)
    except OSError as error:
        logger.error("%s", f"{settings.uds}: {first_line(error)}" if settings.uds else first_line(error))
        sys.exit(STARTUP_FAILURE)
    inode = settings.uds.stat().st_ino if settings.uds else None
    try:
        yield [opened] if opened else None
    finally:
        if settings.uds and settings.uds.exists() and settings.uds.stat().st_ino == inode:  # still ours
            settings.uds.unlink()


def _check_host(host: str) -> None:
    """Look a name up, since uvicorn would not say which one has no address. Raises: OSError."""
    try:
        socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except (socket.gaierror, UnicodeError) as error:
        raise OSError(
            f"{host} is not an address of this machine: set HALFDEPTH_HOST to one, such as 0.0.0.0"
        ) from error


def _dual_stack(settings: Settings) -> socket.socket | None:
    if ":" not in settings.host or not is_unspecified(settings.host) or not socket.has_dualstack_ipv6():
        return None
    return socket.create_server((settings.host, settings.port), family=socket.AF_INET6, dualstack_ipv6=True)


def _unix_socket(path: Path) -> socket.socket:
    """Listen at a path, in place of a socket that a process has left behind. Raises: OSError."""
    if path.exists() or path.is_symlink():
        if not stat.S_ISSOCK(path.lstat().st_mode):
            raise OSError("something other than a socket is there; remove it, or name another path")
        if _is_answered(path):
            raise OSError("another process listens there; stop it, or name another path")
        path.unlink()
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        listener.bind(str(path))
        path.chmod(EVERYONE)
        listener.listen(BACKLOG)
    except BaseException:
        listener.close()
        raise
    return listener


def _is_answered(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        try:
            probe.connect(str(path))
        except ConnectionRefusedError:
            return False
    return True
