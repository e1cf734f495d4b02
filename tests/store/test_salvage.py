"""`repair`: everything that can be read of a damaged store is in the new one, and the damaged one stays as it is."""

import random
from pathlib import Path

import pytest

from skerry.core.errors import CorruptError, RejectedError, UnavailableError
from skerry.store import StorageConfig, SyncKeyValueStore, repair

ROWS = {b"%06d" % number: b"v%d" % number * 60 for number in range(20_000)}


@pytest.fixture
def config(tmp_path: Path) -> StorageConfig:
    made = StorageConfig(path=tmp_path / "kv", compression="none", write_buffer="2MiB")
    with SyncKeyValueStore(made) as kv:
        items = list(ROWS.items())
        for at in range(0, len(items), 1000):
            with kv.batch(durable=False) as batch:
                for key, value in items[at : at + 1000]:
                    batch.set(key, value)
                    batch.set(key, value, table="other")
        kv.compact()
    return made


def read(path: Path, table: str = "kv") -> dict[bytes, bytes]:
    with SyncKeyValueStore(StorageConfig(path=path)) as kv:
        return dict(kv.scan(table=table))


def flip(file: Path, places: list[int]) -> None:
    data = bytearray(file.read_bytes())
    for place in places:
        data[place] ^= 1
    file.write_bytes(data)


def test_some_flipped_bits_cost_the_blocks_they_are_in(tmp_path: Path, config: StorageConfig) -> None:
    chance = random.Random(2)
    files = sorted((tmp_path / "kv/db").glob("*.sst"), key=lambda path: path.stat().st_size)
    for file in files[-3:]:
        size = file.stat().st_size
        flip(file, [chance.randrange(size // 10, size * 8 // 10) for _ in range(3)])
    before = {path: path.read_bytes() for path in (tmp_path / "kv/db").glob("*.sst")}
    with SyncKeyValueStore(config) as kv, pytest.raises(CorruptError):
        _ = [list(kv.scan(table=table)) for table in ("kv", "other")]

    count = repair(config, tmp_path / "saved")
    assert {path: path.read_bytes() for path in before} == before
    kept, other = read(tmp_path / "saved"), read(tmp_path / "saved", "other")
    assert count == len(kept) + len(other)
    for found in (kept, other):
        assert all(ROWS[key] == value for key, value in found.items())
    # nine bits, a block of 16 KiB of about 50 rows each
    assert len(ROWS) * 2 - count <= 9 * 150
    assert count < len(ROWS) * 2


def test_a_whole_store_is_saved_whole(tmp_path: Path, config: StorageConfig) -> None:
    assert repair(config, tmp_path / "saved") == 2 * len(ROWS)
    assert read(tmp_path / "saved") == ROWS
    with pytest.raises(RejectedError, match="not empty"):
        repair(config, tmp_path / "saved")
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


def test_a_store_that_does_not_open_is_rebuilt_from_its_files(tmp_path: Path, config: StorageConfig) -> None:
    (manifest,) = (tmp_path / "kv/db").glob("MANIFEST-*")
    manifest.write_bytes(b"nothing that was written")
    with pytest.raises((CorruptError, UnavailableError)):
        SyncKeyValueStore(config)
    assert repair(config, tmp_path / "saved") > 0


def test_a_store_in_use_and_no_store_are_said(tmp_path: Path, config: StorageConfig) -> None:
    with SyncKeyValueStore(config), pytest.raises(UnavailableError, match="in use"):
        repair(config, tmp_path / "saved")
    with pytest.raises(UnavailableError, match="no store"):
        repair(StorageConfig(path=tmp_path / "nowhere"), tmp_path / "saved")
