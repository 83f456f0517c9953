"""Runs a command so that nothing of it is left once it ends, not even what left its parent.

Ray and others start daemons. A process that says so to Linux (PR_SET_CHILD_SUBREAPER) becomes the parent of every
descendant whose own parent has gone, so all of them are found below this one.
"""

import ctypes
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from time import monotonic, sleep
from typing import NoReturn

from loadtest.peers.tree import descendants
from models.tasks.errors import StoppedError

PR_SET_PDEATHSIG, PR_SET_CHILD_SUBREAPER = 1, 36
GRACE_S = 5.0  # between SIGTERM and SIGKILL
POLL_S = 0.05


def main(command: Sequence[str]) -> int:
    """Return the command's exit status, or 128 and the signal that ended it."""
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(PR_SET_CHILD_SUBREAPER, 1)
    libc.prctl(PR_SET_PDEATHSIG, signal.SIGTERM)  # when what started this one dies, however it dies

    def end(*_: object) -> NoReturn:
        raise StoppedError

    signal.signal(signal.SIGTERM, end)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the parent as well, which then ends this one
    status = 128 + signal.SIGTERM
    child = None
    try:
        child = subprocess.Popen(command)
        status = wait_for(child.pid)
    except StoppedError:
        if child is not None:
            child.terminate()
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        end_descendants()
    return status


def wait_for(child: int) -> int:
    """Wait for the child, and for whatever it leaves behind meanwhile."""
    while True:
        pid, status = os.wait()
        if pid == child:
            code = os.waitstatus_to_exitcode(status)
            return code if code >= 0 else 128 - code


def end_descendants() -> None:
    """Ask every process below this one to end, and kill what has not ended after a while."""
    for number, pid in enumerate(descendants(os.getpid())):
        if number:  # the first is the command, which was asked already or has ended
            _send(pid, signal.SIGTERM)
    until = monotonic() + GRACE_S
    while _reap() and descendants(os.getpid()):
        if monotonic() > until:
            for pid in descendants(os.getpid()):
                _send(pid, signal.SIGKILL)
        sleep(POLL_S)


def _reap() -> bool:
    """Take the exit status of children that have ended. Returns: whether there are others."""
    try:
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    except ChildProcessError:
        return False
    return True


def _send(pid: int, number: int) -> None:
    try:
        os.kill(pid, number)
    except ProcessLookupError:  # it has just ended
        return


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
