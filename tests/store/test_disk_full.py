"""No room on the disk: refused in a sentence, what was acknowledged stays, and the store goes on by itself when there is room."""

import threading
import time
from pathlib import Path

import pytest

from skerry.core.errors import SkerryError, StoreFull
from skerry.store import StorageConfig, SyncKeyValueStore
from tests.fixtures.disk import fill

KIB = 1024


def config(place: Path) -> StorageConfig:
    return StorageConfig(path=place / "kv", max_size="2GiB", write_buffer="2MiB", compression="none")


def test_a_full_disk_is_said_and_reads_and_deletes_go_on(small_disk: Path) -> None:
    with SyncKeyValueStore(config(small_disk)) as kv:
        for number in range(50):
            kv.set(b"%d" % number, b"v" * 64 * KIB)
        filler = fill(small_disk)
        with pytest.raises(StoreFull, match="the disk has no room"):
            kv.set(b"more", b"v" * 64 * KIB)
        assert len(list(kv.scan())) == 50
        kv.delete(b"0")
        filler.unlink()
        kv.set(b"more", b"v" * 64 * KIB)
        assert kv.get(b"0") is None
    with SyncKeyValueStore(config(small_disk)) as kv:
        assert len(list(kv.scan())) == 50


def test_a_disk_that_fills_while_it_is_written_to_keeps_what_was_acknowledged(small_disk: Path) -> None:
    acknowledged: list[bytes] = []
    refused = 0
    with SyncKeyValueStore(config(small_disk)) as kv:
        filling = threading.Thread(target=fill, args=(small_disk,))
        for number in range(300):
            if number == 20:
                filling.start()
            try:
                kv.set(b"%04d" % number, b"v" * 64 * KIB)
            except SkerryError:
                refused += 1
            else:
                acknowledged.append(b"%04d" % number)
        filling.join()
        assert refused > 50
        assert len(acknowledged) >= 20
        assert set(acknowledged) <= {key for key, _ in kv.scan()}
        (small_disk / "filler").unlink()
        give_up = time.monotonic() + 20
        while True:
            try:
                kv.set(b"again", b"1")
                break
            except SkerryError:
                assert time.monotonic() < give_up
                time.sleep(0.2)
    with SyncKeyValueStore(config(small_disk)) as kv:
        assert {*acknowledged, b"again"} <= {key for key, _ in kv.scan()}
