"""What a process holds after large blocks were freed between others that stay."""

import subprocess
import sys

import pytest

from loadtest.process import python_environment

BLOCKS, BLOCK_MB = 100, 1
PROGRAM = f"""
import ctypes, os, sys
from loadtest.process import resident_mb
from service.startup.memory import give_freed_memory_back

if "give" in sys.argv:
    give_freed_memory_back()
libc = ctypes.CDLL(None)
libc.malloc.restype, libc.free.argtypes = ctypes.c_void_p, [ctypes.c_void_p]
libc.free(libc.malloc(30_000_000))  # upon which glibc keeps blocks up to this size
before = resident_mb(os.getpid())
blocks = [libc.malloc({BLOCK_MB}_000_000) for _ in range({BLOCKS})]
for block in blocks:
    ctypes.memset(block, 1, {BLOCK_MB}_000_000)
for block in blocks[::2]:
    libc.free(block)
print(resident_mb(os.getpid()) - before)
"""


def kept_mb(*arguments: str, **variables: str) -> float:
    """Keep every second of 100 blocks of 1 MB. Returns: by how many MB the process has grown."""
    command = [sys.executable, "-c", PROGRAM, *arguments]
    environment = python_environment(**variables)
    return float(subprocess.run(command, env=environment, check=True, capture_output=True, text=True).stdout)


def test_blocks_that_are_freed_between_others_go_back_to_the_system() -> None:
    assert kept_mb("give") == pytest.approx(BLOCKS * BLOCK_MB / 2, abs=5)
    assert kept_mb() > 0.9 * BLOCKS * BLOCK_MB, "glibc gives them back by itself now: the setting is not needed"


@pytest.mark.parametrize(
    "variables",
    [{"MALLOC_MMAP_THRESHOLD_": "40000000"}, {"GLIBC_TUNABLES": "glibc.malloc.mmap_threshold=40000000"}],
)
def test_an_operator_s_own_limit_stays(variables: dict[str, str]) -> None:
    assert kept_mb("give", **variables) > 0.9 * BLOCKS * BLOCK_MB
