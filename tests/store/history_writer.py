"""A process that writes history until it is killed; says which rounds are on the disk. `python history_writer.py DIRECTORY`.

Round n is hour n of each series: its second half, then the first half, late, and the cursor n with it. Old hours go.
"""

import os
import sys
from pathlib import Path

import numpy as np

from skerry.core.clock import ManualClock
from skerry.store import Archive, Keep, StorageConfig, SyncKeyValueStore
from skerry.store.history import DAY, HOUR

BEGIN = 1_700_000_000_000_000 // DAY * DAY
SERIES, STEP = 6, 10_000_000
KEEP = Keep(raw=30 * HOUR, minutes=400 * DAY, hours=400 * DAY)


def columns(series: int, number: int) -> tuple[np.ndarray, np.ndarray]:
    """Times and values of a series' round."""
    times = BEGIN + number * HOUR + np.arange(0, HOUR, STEP)
    return times, np.round(np.random.default_rng((series, number)).normal(20, 5, len(times)), 2)


def opened(directory: Path) -> tuple[SyncKeyValueStore, Archive, ManualClock]:
    """The history in a directory, at the hour behind its cursor."""
    clock = ManualClock(BEGIN)
    store = SyncKeyValueStore(StorageConfig(directory, "64MiB", "none", "1MiB", "1MiB"), clock)
    clock.advance(((Archive(store, KEEP, clock).cursor("log") or 0) + 1) * HOUR)
    return store, Archive(store, KEEP, clock), clock


def write(directory: Path) -> None:
    store, archive, clock = opened(directory)
    begin = (archive.cursor("log") or 0) + 1
    os.write(1, b"open\n")
    for number in range(begin, begin + 100_000):
        clock.advance(HOUR)
        for half in (1, 0):
            for series in range(SERIES):
                times, values = columns(series, number)
                mine = slice(half * len(times) // 2, (half + 1) * len(times) // 2)
                archive.append(f"s{series}", times[mine], values[mine])
            archive.flush({"log": number} if half == 0 else None, durable=half == 0)
        os.write(1, b"batch %d\n" % number)
        if number % 10 == 0:
            archive.retain()
        if number % 25 == 0:
            store.compact()


if __name__ == "__main__":
    write(Path(sys.argv[1]))
