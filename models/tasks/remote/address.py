"""Says where a service is asked: by its settings, or by a URL as people write it."""

import ipaddress
from collections.abc import Mapping
from urllib.parse import urlsplit

from models.tasks.errors import UsageError

PREFIX = "HALFDEPTH_"
DEFAULT_HOST = "127.0.0.1"
DEFAULT_PORT = 8000


def configured_address(environ: Mapping[str, str]) -> tuple[str, int]:
    """Read host and port as the service's settings do, from an environment that they accept.

    An empty variable means the default. So does a port that Kubernetes injects for a Service called `halfdepth`, such
    as `tcp://10.96.3.7:8000`.
    """
    variables = {name.upper(): value.strip() for name, value in environ.items()}
    host, port = variables.get(f"{PREFIX}HOST", ""), variables.get(f"{PREFIX}PORT", "")
    return host or DEFAULT_HOST, int(port) if port.isdecimal() else DEFAULT_PORT


def configured_socket(environ: Mapping[str, str]) -> str | None:
    """Return the Unix socket on which the service listens instead, if its settings name one."""
    variables = {name.upper(): value for name, value in environ.items()}
    return variables.get(f"{PREFIX}UDS", "").strip() or None


def local_url(host: str, port: int) -> str:
    """Make the URL by which its own machine asks a service that listens at this address.

    One that listens at all addresses is asked at 127.0.0.1, which `::` includes.
    """
    host = host.strip("[]")
    if is_unspecified(host):
        host = DEFAULT_HOST
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def is_unspecified(host: str) -> bool:
    """Tell whether a host stands for all addresses: `0.0.0.0`, `::`, in any spelling."""
    try:
        return ipaddress.ip_address(host.strip("[]")).is_unspecified
    except ValueError:  # a name
        return False


def service_url(text: str) -> str:
    """Read the URL of a service, with or without `http://` and a slash at its end. Raises: UsageError."""
    url = text.strip()
    if "://" not in url:
        url = f"http://{url}"
    try:
        parts = urlsplit(url)
        _ = parts.port  # raises where it is no number
    except ValueError:
        parts = urlsplit("")
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.fragment:
        raise UsageError(f"{text!r} is not the URL of a service; give one such as http://localhost:8000")
    return url.rstrip("/")
