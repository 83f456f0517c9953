"""Runs the image's health check: asks the service of the same environment whether it is ready.

It runs every few seconds beside the service, so it imports little.
"""

import os
import socket
import sys
from http import HTTPStatus
from http.client import HTTPConnection, HTTPException

from models.tasks.remote.address import configured_address, configured_socket, local_url

TIMEOUT_S = 2  # docker waits for 3
PATH = "/health/ready"


def main() -> int:
    """Return 0 if the service is ready, else 1."""
    path = configured_socket(os.environ)
    url = path or local_url(*configured_address(os.environ))
    connection = HTTPConnection("localhost" if path else url.removeprefix("http://"), timeout=TIMEOUT_S)
    try:  # directly: a container's proxy is not for itself
        if path:
            connection.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            connection.sock.settimeout(TIMEOUT_S)
            connection.sock.connect(path)
        connection.request("GET", PATH)
        status = connection.getresponse().status
        if status == HTTPStatus.OK:
            return 0
        reason = str(status)
    except (OSError, HTTPException) as error:
        reason = str(error)
    finally:
        connection.close()
    sys.stderr.write(f"{url}{PATH}: {reason}\n")
    return 1


if __name__ == "__main__":
    sys.exit(main())
