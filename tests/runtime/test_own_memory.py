"""Resident memory as the kernel counts it for this process."""

import os
import platform
import subprocess
import sys

import pytest

from skerry.runtime import memory_of, resident

MIB = 1 << 20
TOUCHED = """
from skerry.runtime import resident

before = resident()
block = bytearray(48 << 20)
for at in range(0, len(block), 4096):
    block[at] = 1
full = resident()
del block
print(before, full, resident())
"""
FREED = """
from skerry.runtime import resident, trim

before = resident()
blocks = [bytearray(1000) for _ in range(60_000)]
last = bytearray(1000)  # above all of them, so that the heap cannot simply shrink
full = resident()
del blocks
trim()
print(before, full, resident())
"""


def test_it_is_what_others_see() -> None:
    assert abs(resident() - memory_of(os.getpid())) < 8 * MIB


def test_it_grows_by_what_is_touched_and_no_more() -> None:
    # in a process of its own: one that has run other tests holds freed memory already
    done = subprocess.run([sys.executable, "-c", TOUCHED], capture_output=True, text=True, check=True)
    before, full, after = map(int, done.stdout.split())
    assert 40 * MIB < full - before < 64 * MIB
    assert after - before < 16 * MIB


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc gives memory back when asked")
def test_what_was_freed_goes_back_to_the_kernel() -> None:
    done = subprocess.run([sys.executable, "-c", FREED], capture_output=True, text=True, check=True)
    before, full, after = map(int, done.stdout.split())
    assert full - before > 40 * MIB
    assert after - before < 20 * MIB
