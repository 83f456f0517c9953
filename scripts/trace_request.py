"""Prints, as JSON, the files of service/ and models/ that each of some warm `/qa` requests calls into."""

import http.client
import json
import os
import sys
import threading
import time
from pathlib import Path
from types import FrameType

ROOT = Path(__file__).parents[1]
OURS = tuple(f"{ROOT / package}/" for package in ("service", "models"))
QUESTION = {
    "question": "Who built the lighthouse?",
    "context": "The old lighthouse on the northern cape was built in 1871 by Anna Lindqvist.",
}
WARM_UP, TRACED = 4, 5  # requests
REST_S = 0.3  # between two requests, so that log lines and counts of the one before are written

calls: list[tuple[str, str]] = []
tracing = False


def note(frame: FrameType, event: str, _argument: object) -> None:
    """Notes each call into our code, of whichever thread; the resumption of a coroutine is a call too."""
    path = frame.f_code.co_filename
    if tracing and event == "call" and path.startswith(OURS):
        calls.append((path.removeprefix(f"{ROOT}/"), frame.f_code.co_name))


def main() -> None:
    """Serves the default bundles on a free port from a thread of this process, and asks it."""
    global tracing
    threading.setprofile(note)
    sys.setprofile(note)
    os.environ |= {"HALFDEPTH_THREADS": "2", "HALFDEPTH_PORT": "0", "HALFDEPTH_BUNDLES": str(ROOT / "bundles")}
    sys.path.insert(0, str(ROOT))
    from service.app import create_app
    from service.http.gate import Lifecycle
    from service.http.protocol import Config
    from service.http.server import Server
    from service.settings import Settings

    settings, lifecycle = Settings(), Lifecycle()
    server = Server(Config(create_app(settings, lifecycle=lifecycle), settings), lifecycle)
    serving = threading.Thread(target=server.run, daemon=True)
    serving.start()
    while not server.started:
        if not serving.is_alive():
            sys.exit("the service did not start")
        time.sleep(0.05)
    port = server.servers[0].sockets[0].getsockname()[1]
    connection = http.client.HTTPConnection("127.0.0.1", port)
    ways = []
    for number in range(WARM_UP + TRACED):
        time.sleep(REST_S)
        calls.clear()
        tracing = number >= WARM_UP
        connection.request("POST", "/qa", json.dumps(QUESTION), {"content-type": "application/json"})
        connection.getresponse().read()
        tracing = False
        last_write = max((index for index, (_, name) in enumerate(calls) if name in ("write", "flush")), default=0)
        ways.append([path for path, _ in calls[: last_write + 1]])
    sys.stdout.write(json.dumps(ways[WARM_UP:]))
    sys.stdout.flush()
    os._exit(0)  # the server's thread has no other end


if __name__ == "__main__":
    main()
