"""What the tests of the historian share: an assignment, and an archive with an hour of two series."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from skerry.core.clock import ManualClock
from skerry.historian import Assignment, Keeping
from skerry.store import Archive, StorageConfig, SyncKeyValueStore

SECOND = 1_000_000
HOUR = 3600 * SECOND
DAY = 24 * HOUR
NOW = 1_795_545_600_000_000
BEGIN = NOW - HOUR
KEEP = Keeping(7 * DAY, 90 * DAY, 5 * 365 * DAY)
TABLE = {"name": "p", "source": {"topic": "devices/+/v", "time": "ts", "values": ["x"], "max_future": "10m"}, "sinks": ["history"]}


def assigned(folder: Path, **more: Any) -> Assignment:
    given = {
        "directory": str(folder / "history"), "max_size": "64MiB", "keep": KEEP, "socket": str(folder / "h.sock"),
        "pipelines": [TABLE], **more,
    }  # fmt: skip
    return Assignment(**given)


@contextmanager
def filled(directory: Path) -> Iterator[Archive]:
    """`a/v/x`: 3600 samples, one a second; `b/v/x`: every tenth of them."""
    clock = ManualClock(NOW)
    with SyncKeyValueStore(StorageConfig(directory, "64MiB", "none", "2MiB", "2MiB"), clock) as store:
        archive = Archive(store, clock=clock)
        numbers = np.arange(3600)
        for name, step in (("a/v/x", 1), ("b/v/x", 10)):
            archive.append(name, BEGIN + numbers[::step] * SECOND, numbers[::step] / 10)
        archive.flush()
        yield archive
