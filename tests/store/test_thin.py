"""Samples that are rolled up and not kept: the minutes are as if they were, over restarts and replays too."""

import random
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from skerry.core.clock import ManualClock
from skerry.store import Archive, Keep, StorageConfig, SyncKeyValueStore

MINUTE, HOUR = 60_000_000, 3_600_000_000
NOW = 1_795_545_600_000_000 // HOUR * HOUR
S = "pump/flow/x"


@pytest.fixture
def store(tmp_path: Path) -> Iterator[SyncKeyValueStore]:
    found = SyncKeyValueStore(StorageConfig(str(tmp_path / "kv"), "64MiB", "none"), ManualClock(NOW))
    yield found
    found.close()


def samples(begin: int, end: int, every: int = 1_000_000) -> tuple[np.ndarray, np.ndarray]:
    times = np.arange(NOW + begin * 1_000_000, NOW + end * 1_000_000, every, dtype=np.int64)
    return times, (times % 977).astype(np.float64)


def minutes(archive: Archive) -> list[tuple[int, float, float]]:
    """Start, mean and count of each minute."""
    times, means = archive.query(S, NOW - HOUR, NOW + 2 * HOUR, MINUTE, "mean")
    _, counts = archive.query(S, NOW - HOUR, NOW + 2 * HOUR, MINUTE, "count")
    return list(zip(times.tolist(), means.tolist(), counts.tolist(), strict=True))


def expected(*spans: tuple[int, int]) -> list[tuple[int, float, float]]:
    times, values = (np.concatenate(each) for each in zip(*(samples(*span) for span in spans), strict=True))
    begins = times // MINUTE * MINUTE
    rows = [(int(start), values[begins == start]) for start in np.unique(begins)]
    return [(start, pytest.approx(mine.mean()), float(len(mine))) for start, mine in rows]


def raw(archive: Archive) -> int:
    return len(archive.query(S, NOW - HOUR, NOW + 2 * HOUR)[0])


def test_only_the_roll_ups_are_there_and_they_are_whole(store: SyncKeyValueStore) -> None:
    archive = Archive(store, Keep(), ManualClock(NOW))
    archive.append(S, *samples(0, 90))
    archive.flush({"log": 90})
    for begin in range(90, 600, 10):
        archive.append(S, *samples(begin, begin + 10), keep=False)
        archive.flush({"log": begin + 10})
    archive.append(S, *samples(600, 700))
    archive.flush({"log": 700})
    assert minutes(archive) == expected((0, 700))
    assert raw(archive) == 90 + 100
    assert archive.query(S, NOW, NOW + HOUR, HOUR, "count")[1].tolist() == [700.0]


def test_what_is_given_again_changes_nothing_also_after_a_restart(store: SyncKeyValueStore) -> None:
    archive = Archive(store, Keep(), ManualClock(NOW))
    archive.append(S, *samples(0, 100))
    archive.append(S, *samples(100, 400), keep=False)
    archive.flush({"log": 400})
    archive.append(S, *samples(50, 400), keep=False)
    archive.flush({"log": 400})
    assert (minutes(archive), raw(archive)) == (expected((0, 400)), 100)
    again = Archive(store, Keep(), ManualClock(NOW))
    again.append(S, *samples(350, 450), keep=False)
    again.flush({"log": 450})
    assert raw(again) == 100
    found = {start: count for start, _, count in minutes(again)}
    assert all(found[start] == count for start, _, count in expected((0, 360))), "minutes that were whole stay whole"
    assert found[NOW + 360 * 1_000_000] == 60.0, "what is read again fills the minute that was begun"


def test_an_hour_that_is_only_rolled_up_goes_on_after_a_restart(store: SyncKeyValueStore) -> None:
    for begin in range(0, 600, 60):
        archive = Archive(store, Keep(), ManualClock(NOW))
        archive.append(S, *samples(begin, begin + 60), keep=False)
        archive.flush({"log": begin})
    assert (minutes(archive), raw(archive)) == (expected((0, 600)), 0)
    assert archive.counts["too_late"] == 0


def test_whatever_is_kept_and_whatever_is_not_the_minutes_are_those_of_all(store: SyncKeyValueStore) -> None:
    rng, archive, kept = random.Random(3), Archive(store, Keep(), ManualClock(NOW)), 0
    for begin in range(0, 5000, 100):
        keep = rng.random() < 0.5
        archive.append(S, *samples(begin, begin + 100), keep=keep)
        kept += 100 * keep
        if rng.random() < 0.6:
            archive.flush({"log": begin})
    archive.flush({"log": 5000})
    assert minutes(archive) == expected((0, 5000))
    assert raw(archive) == kept
