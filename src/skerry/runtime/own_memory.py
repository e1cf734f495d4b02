"""Resident memory of this process: read without a library, since what measures a model must not grow by it, and given back."""

import contextlib
import ctypes
import os
from pathlib import Path

_STATM = Path("/proc/self/statm")


def resident() -> int:
    """Resident bytes of this process; 0 where the kernel has no /proc."""
    try:
        return int(_STATM.read_text(encoding="ascii").split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        return 0


def trim() -> None:
    """Give memory that has been freed back to the kernel, where the C library can: what loading a model took for a moment stays
    with the process else. Takes some milliseconds, in which other threads wait for memory.
    """
    with contextlib.suppress(AttributeError):  # not glibc
        ctypes.CDLL(None).malloc_trim(0)
