"""Memory is given back after it was taken for a while, and a process that has grown for good is left alone."""

import subprocess
import sys

import pytest

from skerry.runtime.trimming import Growth

MIB = 1024 * 1024
# small pieces between others that stay: freed, they leave holes that the C library keeps
FLOOD = """
import asyncio
from skerry.runtime import keep_trimmed, resident

async def flood():
    keeping = asyncio.create_task(keep_trimmed(0.02, 8 << 20))
    await asyncio.sleep(0.1)
    pieces = [bytearray(20_000) for _ in range(5_000)]
    most, kept = resident(), pieces[::50]
    del pieces
    await asyncio.sleep(0.3)
    keeping.cancel()
    print(most - resident(), len(kept))

asyncio.run(flood())
"""


def test_only_growth_counts() -> None:
    growth = Growth(10 * MIB, 1.0, 8.0)
    looks = [growth.is_much(mib * MIB, float(now)) for now, mib in enumerate((100, 109, 110, 90, 100, 101))]
    assert looks == [False, False, False, False, False, True]


def test_what_was_in_use_is_tried_again_and_less_often_when_that_is_of_no_use() -> None:
    growth = Growth(10 * MIB, 1.0, 8.0)
    assert not growth.is_much(100 * MIB, 0.0)
    tried = []
    for tenths in range(400):
        now = tenths / 10
        if growth.is_much(150 * MIB, now):
            growth.trimmed(150 * MIB, 149 * MIB, now)
            tried.append(now)
    assert tried == [0.0, 1.0, 3.0, 7.0, 15.0, 23.0, 31.0, 39.0]
    assert growth.is_much(160 * MIB, 40.0)  # more than that time: at once
    growth.trimmed(160 * MIB, 120 * MIB, 40.0)
    assert not growth.is_much(121 * MIB, 40.9)
    assert growth.is_much(121 * MIB, 41.0)  # it was of use: soon
    growth.trimmed(121 * MIB, 100 * MIB, 41.0)
    assert not growth.is_much(110 * MIB, 100.0)


@pytest.mark.skipif(sys.platform != "linux", reason="optional: only glibc gives memory back when asked")
def test_a_process_gives_back_what_it_took() -> None:
    done = subprocess.run([sys.executable, "-c", FLOOD], capture_output=True, text=True, check=True, timeout=30)
    given_back, kept = map(int, done.stdout.split())
    assert kept == 100
    assert given_back > 60 * MIB
