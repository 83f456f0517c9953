"""Runs the image's health check: asks the service of the same environment whether it is ready.

It runs every few seconds beside the service, so it imports little.
"""

import os
import sys
import urllib.error
import urllib.request

from models.tasks.remote.address import configured_address, local_url

TIMEOUT_S = 2  # docker waits for 3


def main() -> int:
    """Return 0 if the service is ready, else 1."""
    url = f"{local_url(*configured_address(os.environ))}/health/ready"
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))  # a container's proxy is not for itself
    try:
        with direct.open(url, timeout=TIMEOUT_S):
            return 0
    except urllib.error.HTTPError as error:
        reason = str(error.code)
    except OSError as error:
        reason = str(error)
    sys.stderr.write(f"{url}: {reason}\n")
    return 1


if __name__ == "__main__":
    sys.exit(main())
