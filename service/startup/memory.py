"""Lets freed memory go back to the system; glibc keeps what lies between blocks that stay."""

import ctypes
import os
from contextlib import suppress

M_MMAP_THRESHOLD = -3  # of mallopt(3)
THRESHOLD_BYTES = 128 * 1024  # glibc's own at first
VARIABLE, TUNABLE = "MALLOC_MMAP_THRESHOLD_", "glibc.malloc.mmap_threshold"


def give_freed_memory_back() -> None:
    """Map each block of 128 KB or more by itself, so that it goes back to the system as soon as it is freed.

    glibc begins so, but raises the limit up to 32 MB when such a block is freed. Weights that a start or a reload reads
    and drops then lie between blocks that stay, and their memory with them (docs/log/serving.md). Does nothing with
    another C library, or where an operator has set the limit.
    """
    if VARIABLE in os.environ or TUNABLE in os.environ.get("GLIBC_TUNABLES", ""):
        return
    with suppress(AttributeError):  # a C library that has no such setting
        ctypes.CDLL(None).mallopt(M_MMAP_THRESHOLD, THRESHOLD_BYTES)
