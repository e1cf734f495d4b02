"""What each part takes of the disk, the reserve, and what goes."""

import os
from pathlib import Path

import pytest

from skerry.config import load
from skerry.node.disk import OTHER, RESERVE, Reserve, _drop, _rotated, measure, parts_of

MIB = 1024 * 1024


def put(path: Path, size: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"x" * size)


def test_every_file_counts_once_wherever_the_store_lies(tmp_path: Path) -> None:
    file = tmp_path / "skerry.toml"
    for at, path in (("./data/store", "data/store"), ("elsewhere", "elsewhere")):
        file.write_text(f'[storage]\npath = "{at}"\n')
        config = load(file)
        sizes = {"data/broker/jetstream/1.blk": 3, f"{path}/db/1.sst": 2, "data/history/db/2.sst": 1, "data/reserve": 5}
        sizes |= {"data/models/blobs/a": 4, "data/logs/skerry.log": 1, "data/uptime.json": 1, "data/run/a": 1}
        for name, size in sizes.items():
            put(tmp_path / name, size * 64 * 1024)
        found = {name: size // 65536 for name, size in measure(config.data_dir, parts_of(config)).items()}
        wanted = {"log": 3, "store": 2, "history": 1, "models": 4, "logs": 1, RESERVE: 5, OTHER: 2}
        if path == "elsewhere":
            wanted[OTHER] += 2  # what the first round left in data/store
        assert found == wanted


def test_what_a_backup_has_linked_counts_once(tmp_path: Path) -> None:
    (tmp_path / "skerry.toml").write_text("")
    config = load(tmp_path / "skerry.toml")
    put(config.history_path / "db" / "1.sst", 128 * 1024)
    copy = config.data_dir / "backup" / "history"
    copy.mkdir(parents=True)
    os.link(config.history_path / "db" / "1.sst", copy / "1.sst")
    sizes = measure(config.data_dir, parts_of(config))
    assert (sizes["history"], sizes[OTHER]) == (128 * 1024, 0)
    (config.history_path / "db" / "1.sst").unlink()  # compacted away: the copy still takes the room
    assert measure(config.data_dir, parts_of(config))[OTHER] == 128 * 1024


def test_each_part_says_how_much_it_may_take_and_what_happens_then(tmp_path: Path) -> None:
    (tmp_path / "skerry.toml").write_text('[storage]\nmax_size = "64MiB"\n[history]\nmax_size = "96MiB"\n')
    parts = {part.name: part for part in parts_of(load(tmp_path / "skerry.toml"))}
    assert (parts["store"].limit, parts["history"].limit) == (64 * MIB, 96 * MIB)
    assert parts["log"].limit == (2 << 30) + 960 * MIB
    assert all(part.full for part in parts.values())


def test_the_reserve_is_made_dropped_and_made_again(tmp_path: Path) -> None:
    reserve = Reserve(tmp_path / "reserve", 4 * MIB)
    assert not reserve.there
    assert not reserve.drop()
    reserve.keep()
    assert reserve.there
    assert (tmp_path / "reserve").stat().st_blocks * 512 >= 4 * MIB
    assert reserve.drop()
    assert list(tmp_path.iterdir()) == []
    reserve.keep()
    assert reserve.there


def test_no_reserve_is_made_on_a_disk_without_room(small_disk: Path) -> None:
    reserve = Reserve(small_disk / "reserve", 30 * MIB)
    reserve.keep()
    assert not reserve.there
    assert list(small_disk.iterdir()) == []


def test_one_of_another_size_is_made_anew(tmp_path: Path) -> None:
    put(tmp_path / "reserve", 10)
    reserve = Reserve(tmp_path / "reserve", MIB)
    assert not reserve.there
    reserve.keep()
    assert (tmp_path / "reserve").stat().st_size == MIB


@pytest.mark.parametrize(("size", "left"), [(1, 3), (150_000, 2), (1 << 30, 0)])
def test_old_logs_go_the_oldest_first_and_never_the_audit_log(size: int, left: int, tmp_path: Path) -> None:
    names = ["logs/skerry.log.2", "logs/skerry.log.1", "broker/log/nats.log.2026.01.01", "logs/skerry.log.3"]
    for age, name in enumerate(names):
        put(tmp_path / name, 128 * 1024)
        os.utime(tmp_path / name, (1000 - age, 1000 - age))
    stay = ["logs/skerry.log", "logs/audit.log.1", "broker/log/nats.log"]
    for name in stay:
        put(tmp_path / name, 10)
    freed = _drop(list(_rotated(tmp_path)), size)
    there = [name for name in names if (tmp_path / name).exists()]
    assert there == names[:left]
    assert freed == (4 - left) * 128 * 1024
    assert all((tmp_path / name).exists() for name in stay)
