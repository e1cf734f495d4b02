"""Damage in the files of a history: found, named, and all that can be read is saved."""

from pathlib import Path

import numpy as np
import pytest

from skerry.core.clock import ManualClock
from skerry.core.errors import CorruptError
from skerry.store import Archive, StorageConfig, SyncKeyValueStore, repair
from skerry.store.history import DAY, HOUR, MINUTE

NOW = 1_700_000_000_000_000 // DAY * DAY
NAMES = [f"s{number:02}" for number in range(20)]
TIMES = NOW + np.arange(3600) * 1_000_000
VALUES = {name: np.random.default_rng(number).normal(size=3600) for number, name in enumerate(NAMES)}


def written(config: StorageConfig) -> None:
    with SyncKeyValueStore(config, ManualClock(NOW)) as kv:
        archive = Archive(kv, clock=ManualClock(NOW))
        for name, values in VALUES.items():
            archive.append(name, TIMES, values)
        archive.flush({"log": 7})
        kv.compact()


def read(config: StorageConfig, every: int | None = None) -> dict[str, list[float]]:
    """Cursor (as the series "") and values of all series."""
    with SyncKeyValueStore(config, ManualClock(NOW)) as kv:
        archive = Archive(kv, clock=ManualClock(NOW))
        found = {name: archive.query(name, NOW, NOW + HOUR, every, "count")[1].tolist() for name in archive.series()}
        return {"": [float(archive.cursor("log") or 0)], **found}


@pytest.mark.parametrize("damage", ["a flipped bit", "a lost tail"])
def test_a_damaged_file_is_named_and_the_rest_is_saved(tmp_path: Path, damage: str) -> None:
    config = StorageConfig(path=tmp_path / "kv", compression="none")
    written(config)
    file = max((tmp_path / "kv/db").glob("*.sst"), key=lambda path: path.stat().st_size)
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 4
    file.write_bytes(data if damage == "a flipped bit" else data[: len(data) // 2])
    with pytest.raises(CorruptError, match=file.name):
        read(config)

    assert repair(config, tmp_path / "saved") > 0
    saved = StorageConfig(path=tmp_path / "saved")
    raw = read(saved)
    assert raw.pop("") == [7.0]
    assert sorted(raw) == NAMES
    assert all(values == VALUES[name].tolist() for name, values in raw.items() if values)
    # the roll-ups are in files of their own
    counts = read(saved, MINUTE)
    assert all(counts[name] == [60.0] * 60 for name in NAMES)
    assert sum(bool(values) for values in raw.values()) >= (17 if damage == "a flipped bit" else 0)
