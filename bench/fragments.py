"""Memory of mixed sizes for a long time, with the pool and without: `python -m bench.fragments pool|plain SECONDS`; one JSON line.

Buffers of 1 KiB to 1 MiB, as many small as large ones, live for a random number of rounds; each is written to, so that it is
resident. What counts is what the process has grown by over what is alive: 1 is perfect.
"""

import random
import sys
import time
from collections.abc import Callable

import msgspec
import numpy as np
from numpy.typing import NDArray

from skerry.runtime import Block, MemoryPool, resident

LIVE = 400
PAGE = 4096
SIZES = (10, 20)  # powers of two


class Found(msgspec.Struct):
    """Resident bytes over live ones: at the worst moment after the first tenth of the time, and at the end."""

    worst: float
    last: float
    rounds: int
    seconds: float


class Pools:
    """As `inference` keeps them: a pool for each power of two."""

    def __init__(self) -> None:
        self._pools = {power: MemoryPool(1 << power, 2 * LIVE) for power in range(SIZES[0], SIZES[1] + 1)}

    def take(self, size: int) -> tuple[NDArray[np.uint8], Callable[[], None]]:
        pool = self._pools[max(SIZES[0], (size - 1).bit_length())]
        block: Block = pool.allocate()
        return block.array((size,), np.dtype(np.uint8)), lambda: pool.deallocate(block)


def plain(size: int) -> tuple[NDArray[np.uint8], Callable[[], None]]:
    return np.empty(size, np.uint8), lambda: None


def measure(take: Callable[[int], tuple[NDArray[np.uint8], Callable[[], None]]], seconds: float, seed: int = 7) -> Found:
    """Give and take until the time is over."""
    rng, live, total = random.Random(seed), dict[int, tuple[NDArray[np.uint8], Callable[[], None]]](), 0
    before, began, rounds, worst, looked, ratio = resident(), time.monotonic(), 0, 0.0, 0.0, 0.0
    while (now := time.monotonic() - began) < seconds or len(live) < LIVE // 2:
        rounds += 1
        at = rng.randrange(LIVE)
        if at in live:
            array, give = live.pop(at)
            total -= array.nbytes
            del array
            give()
        else:
            array, give = take(round(2 ** rng.uniform(*SIZES)))
            array[::PAGE] = 1
            live[at], total = (array, give), total + array.nbytes
        if now - looked >= min(1.0, seconds / 20):
            looked, ratio = now, (resident() - before) / max(1, total)
            worst = max(worst, ratio) if now > seconds / 10 else worst
    return Found(worst, ratio, rounds, now)


if __name__ == "__main__":
    found = measure(Pools().take if sys.argv[1] == "pool" else plain, float(sys.argv[2]))
    print(msgspec.json.encode(found).decode(), flush=True)
