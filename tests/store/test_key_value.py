"""The store's contract, held by RocksDB on a disk and by the engine in memory, for asyncio and for threads."""

import asyncio
import threading
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from skerry.core.clock import ManualClock, SystemClock
from skerry.core.errors import CorruptError, RejectedError, StoreFull, UnavailableError
from skerry.store import KeyValueStore, StorageConfig, SyncKeyValueStore
from skerry.store.committer import AGE, EXPIRY
from skerry.store.key_value import AsyncBatch
from skerry.store.shelf import Shelf

NOW = 1_700_000_000_000_000
MIB = 1024 * 1024


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(NOW)


@pytest_asyncio.fixture(params=["disk", "memory"])
async def kv(request: pytest.FixtureRequest, tmp_path: Path, clock: ManualClock) -> AsyncIterator[KeyValueStore]:
    async with KeyValueStore(StorageConfig(path=tmp_path / "kv"), clock, memory=request.param == "memory") as store:
        yield store


async def rows(kv: KeyValueStore, *arguments: bytes, **ends: bytes) -> list[tuple[bytes, bytes]]:
    return [row async for row in kv.scan(*arguments, **ends)]


@pytest.mark.asyncio
async def test_what_is_set_is_there_until_it_is_deleted(kv: KeyValueStore) -> None:
    assert await kv.get(b"k") is None
    assert not await kv.exists(b"k")
    await kv.set(b"k", b"v")
    await kv.set(b"k", b"w", durable=False)
    assert await kv.get(b"k") == b"w"
    assert await kv.exists(b"k")
    await kv.delete(b"k")
    await kv.delete(b"k")
    assert await kv.get(b"k") is None


@pytest.mark.asyncio
async def test_scans_are_in_order_of_prefix_range_or_all(kv: KeyValueStore) -> None:
    for key in (b"b", b"a\xff", b"a", b"a\xff\xff1", b"c", b"\xff\xff"):
        await kv.set(key, key * 2)
    assert [key for key, _ in await rows(kv)] == [b"a", b"a\xff", b"a\xff\xff1", b"b", b"c", b"\xff\xff"]
    assert [key for key, _ in await rows(kv, b"a\xff")] == [b"a\xff", b"a\xff\xff1"]
    assert [key for key, _ in await rows(kv, b"\xff")] == [b"\xff\xff"]
    assert await rows(kv, begin=b"a\xff\xff", end=b"c") == [(b"a\xff\xff1", b"a\xff\xff1" * 2), (b"b", b"bb")]
    assert await rows(kv, b"nothing") == []
    with pytest.raises(RejectedError, match="not of both"):
        await rows(kv, b"a", begin=b"b")


@pytest.mark.asyncio
async def test_a_scan_and_a_snapshot_see_one_moment(kv: KeyValueStore) -> None:
    for number in range(600):
        await kv.set(b"%04d" % number, b"old", durable=False)
    async with kv.snapshot() as view:
        scan = kv.scan()
        first = await anext(scan)
        async with kv.batch(durable=False) as batch:
            for number in range(600):
                batch.set(b"%04d" % number, b"new")
            batch.set(b"late", b"new")
            batch.set(b"there", b"new", table="other")
        assert [first, *[row async for row in scan]] == [(b"%04d" % number, b"old") for number in range(600)]
        assert [value async for _, value in view.scan(b"05")] == [b"old"] * 100
        assert (await view.get(b"0007"), await view.get(b"late"), await view.get(b"there", table="other")) == (b"old", None, None)
    assert await kv.get(b"there", table="other") == b"new"
    assert {value for _, value in await rows(kv)} == {b"new"}


@pytest.mark.asyncio
async def test_a_batch_happens_whole_or_not_at_all(kv: KeyValueStore) -> None:
    await kv.set(b"gone", b"1")
    async with kv.batch() as batch:
        batch.set(b"a", b"1")
        batch.set(b"b", b"2", table="other")
        batch.delete(b"gone")

    async def fail() -> None:
        async with kv.batch() as batch:
            batch.set(b"a", b"9")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await fail()
    assert await rows(kv) == [(b"a", b"1")]
    assert await kv.get(b"b", table="other") == b"2"
    assert sorted(kv.stats()["tables"]) == ["kv", "other"]


@pytest.mark.asyncio
async def test_compare_and_set_lets_one_of_many_through(kv: KeyValueStore) -> None:
    assert await kv.compare_and_set(b"k", None, b"1")
    assert not await kv.compare_and_set(b"k", None, b"2")
    won = await asyncio.gather(*(kv.compare_and_set(b"k", b"1", b"by %d" % number) for number in range(50)))
    assert sum(won) == 1
    assert await kv.get(b"k") == b"by %d" % won.index(True)
    assert await kv.compare_and_set(b"k", await kv.get(b"k"), None)
    assert await kv.get(b"k") is None


@pytest.mark.asyncio
async def test_counting_up_together_loses_nothing(kv: KeyValueStore) -> None:
    async def count() -> None:
        for _ in range(10):
            while True:
                held = await kv.get(b"n")
                if await kv.compare_and_set(b"n", held, b"%d" % (int(held or 0) + 1), durable=False):
                    break

    await asyncio.gather(*(count() for _ in range(8)))
    assert await kv.get(b"n") == b"80"


@pytest.mark.asyncio
async def test_a_time_to_live_ends_a_value(kv: KeyValueStore, clock: ManualClock) -> None:
    await kv.set(b"short", b"1", ttl=1.5)
    await kv.set(b"kept", b"1", ttl=1.5)
    await kv.set(b"kept", b"2", ttl=60)
    clock.advance(1_499_999)
    assert await kv.get(b"short") == b"1"
    clock.advance(1)
    assert await kv.get(b"short") is None
    assert await rows(kv) == [(b"kept", b"2")]
    assert await kv.compare_and_set(b"short", None, b"again")
    clock.advance(60_000_000)
    async with asyncio.timeout(5):
        while kv.stats()["expired"] < 1:  # noqa: ASYNC110 - another thread does it
            await asyncio.sleep(0.05)
    assert await rows(kv) == [(b"short", b"again")]


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        (b"", b"", "0 bytes"),
        (b"k" * (64 * 1024 + 1), b"", "65537 bytes"),
        ("text", b"", "not str"),
        (b"k", "text", "not str"),
        (b"k", b"v" * (64 * MIB + 1), "67108865 bytes"),
    ],
)
async def test_what_is_no_key_or_value_is_refused(kv: KeyValueStore, key: bytes, value: bytes, words: str) -> None:
    with pytest.raises(RejectedError, match=words) as caught:
        await kv.set(key, value)
    assert caught.value.mend


@pytest.mark.asyncio
async def test_the_longest_key_and_empty_values_are_taken(kv: KeyValueStore) -> None:
    await kv.set(b"k" * 64 * 1024, b"")
    await kv.set(b"\0", b"\0")
    assert await rows(kv) == [(b"\0", b"\0"), (b"k" * 64 * 1024, b"")]


@pytest.mark.asyncio
@pytest.mark.parametrize("name", ["", "a b", "ä", "x" * 65, "$age"])
async def test_names_of_tables_are_checked(kv: KeyValueStore, name: str) -> None:
    with pytest.raises(RejectedError, match="no name of a table"):
        await kv.set(b"k", b"v", table=name)
    with pytest.raises(RejectedError, match="time to live"):
        await kv.set(b"k", b"v", ttl=0)


@pytest.mark.asyncio
async def test_tables_are_bounded(kv: KeyValueStore) -> None:
    async def fill() -> None:
        for number in range(100):
            await kv.set(b"k", b"v", table=f"t{number}", durable=False)

    with pytest.raises(RejectedError, match="at most"):
        await fill()


@pytest.mark.asyncio
async def test_many_callers_share_a_sync(tmp_path: Path) -> None:
    async with KeyValueStore(StorageConfig(path=tmp_path / "kv")) as kv:
        await asyncio.gather(*(kv.set(b"%d" % number, b"v") for number in range(500)))
        counts = kv.stats()
        assert counts["requests"] == 500
        assert counts["syncs"] <= 50
        await asyncio.gather(*(kv.set(b"%d" % number, b"w", durable=False) for number in range(500)))
        assert kv.stats()["syncs"] == counts["syncs"]


@pytest.mark.asyncio
async def test_a_store_goes_on_where_it_was(tmp_path: Path) -> None:
    for compression in ("zstd", "none", "lz4"):
        config = StorageConfig(path=tmp_path / "kv", compression=compression)
        async with KeyValueStore(config) as kv:
            await kv.set(compression.encode(), b"v" * 1000, table="other", durable=False)
    async with KeyValueStore(StorageConfig(path=tmp_path / "kv")) as kv:
        assert [key async for key, _ in kv.scan(table="other")] == [b"lz4", b"none", b"zstd"]


@pytest.mark.asyncio
async def test_one_process_owns_a_store(tmp_path: Path) -> None:
    config = StorageConfig(path=tmp_path / "kv")
    async with KeyValueStore(config):
        with pytest.raises(UnavailableError, match=r"in use by another skerry \(pid \d+\)"):
            await KeyValueStore(config).open()
    async with KeyValueStore(config) as kv:
        assert await kv.get(b"k") is None


@pytest.mark.asyncio
async def test_a_closed_store_says_so_also_to_its_scans(kv: KeyValueStore) -> None:
    for number in range(600):
        await kv.set(b"%d" % number, b"", durable=False)
    scan = kv.scan()
    await anext(scan)
    await kv.close()
    await kv.close()
    with pytest.raises(UnavailableError, match="closed"):
        await kv.set(b"k", b"v")
    with pytest.raises(UnavailableError, match="not open"):
        await KeyValueStore(StorageConfig()).get(b"k")


@pytest.mark.asyncio
async def test_a_later_format_is_refused_with_the_mend(tmp_path: Path) -> None:
    config = StorageConfig(path=tmp_path / "kv")
    async with KeyValueStore(config):
        pass
    (tmp_path / "kv/format").write_text("7\n")
    with pytest.raises(CorruptError, match="format '7'") as caught:
        await KeyValueStore(config).open()
    assert "version" in caught.value.mend
    (tmp_path / "kv/format").write_text("1\n")
    async with KeyValueStore(config):
        pass


@pytest.mark.asyncio
async def test_a_backup_made_while_others_write_is_a_store(tmp_path: Path) -> None:
    async with KeyValueStore(StorageConfig(path=tmp_path / "kv")) as kv:
        await kv.set(b"before", b"1", durable=False)

        async def write() -> None:
            for number in range(300):
                async with kv.batch(durable=False) as batch:
                    batch.set(b"a", b"%d" % number)
                    batch.set(b"b", b"%d" % number)

        writing = asyncio.create_task(write())
        await asyncio.sleep(0.01)
        await kv.backup(tmp_path / "copy")
        await writing
        with pytest.raises(RejectedError, match="not empty"):
            await kv.backup(tmp_path / "copy")
    async with KeyValueStore(StorageConfig(path=tmp_path / "copy")) as copy:
        assert await copy.get(b"before") == b"1"
        assert await copy.get(b"a") == await copy.get(b"b")


@pytest.mark.asyncio
async def test_a_full_store_refuses_and_takes_again_what_fits_after_deletes(tmp_path: Path) -> None:
    config = StorageConfig(path=tmp_path / "kv", max_size="40MiB", compression="none")
    async with KeyValueStore(config) as kv:
        written = 0

        async def fill() -> None:
            nonlocal written
            while written < 100:
                await kv.set(b"%04d" % written, b"v" * MIB, durable=False)
                written += 1
                assert kv.stats()["bytes"] <= config.max_bytes

        with pytest.raises(StoreFull, match="has no room for") as caught:
            await fill()
        assert "storage.max_size" in str(caught.value)
        assert 15 < written < 40
        for number in range(written):
            await kv.delete(b"%04d" % number, durable=False)
        for number in range(10):
            await kv.set(b"%04d" % number, b"w" * MIB, durable=False)
        assert len([key async for key, _ in kv.scan()]) == 10


@pytest.mark.asyncio
async def test_the_oldest_of_an_evictable_table_goes_first(tmp_path: Path) -> None:
    config = StorageConfig(path=tmp_path / "kv", max_size="40MiB", compression="none", evictable=("raw",))
    async with KeyValueStore(config) as kv:
        await kv.set(b"kept", b"v" * MIB)
        for number in range(120):
            await kv.set(b"%04d" % (9999 - number), b"v" * MIB, table="raw", durable=False)
            assert kv.stats()["bytes"] <= config.max_bytes
        left = [9999 - int(key) async for key, _ in kv.scan(table="raw")]
        assert sorted(left) == list(range(120 - len(left), 120))
        assert len(left) >= 10
        assert kv.stats()["evicted"] == 120 - len(left)
        assert await kv.get(b"kept") == b"v" * MIB


@pytest.mark.asyncio
async def test_what_has_ended_goes_also_while_others_write() -> None:
    async with KeyValueStore(StorageConfig(path="unused"), memory=True) as busy:
        async with asyncio.timeout(20):
            number = 0
            while busy.stats()["expired"] < 20:
                await busy.set(b"%d" % number, b"v", ttl=0.01)
                number += 1
                await asyncio.sleep(0.02)  # never idle for half a second


@pytest.mark.asyncio
async def test_what_has_ended_makes_room_before_anything_is_refused(tmp_path: Path, clock: ManualClock) -> None:
    config = StorageConfig(path=tmp_path / "kv", max_size="40MiB", compression="none")
    async with KeyValueStore(config, clock) as kv:

        async def fill() -> None:
            for number in range(100):
                await kv.set(b"%04d" % number, b"v" * MIB, ttl=60, durable=False)

        with pytest.raises(StoreFull):
            await fill()
        clock.advance(61_000_000)
        await kv.set(b"next", b"v" * MIB)
        assert [key async for key, _ in kv.scan()] == [b"next"]


@pytest.mark.asyncio
async def test_a_value_that_is_set_again_leaves_nothing_in_the_indexes(tmp_path: Path) -> None:
    shelf = Shelf(StorageConfig(path=tmp_path / "kv", evictable=("raw",)), SystemClock())
    try:
        for _ in range(3):
            async with AsyncBatch(shelf, durable=False) as batch:
                for number in range(30):
                    batch.set(b"%d" % (number % 3), b"v", table="raw", ttl=60 + number)
        assert len(list(shelf.engine.scan(AGE, b"", b""))) == 3
        assert len(list(shelf.engine.scan(EXPIRY, b"", b""))) == 3
    finally:
        await asyncio.to_thread(shelf.close)


def test_many_threads_may_make_one_table(tmp_path: Path) -> None:
    failures: list[Exception] = []
    start = threading.Barrier(6)

    def write(kv: SyncKeyValueStore, mine: int) -> None:
        for number in range(10):
            start.wait(20)
            try:
                kv.set(b"%d" % mine, b"v", table=f"t{number}", durable=False)
            except Exception as error:  # noqa: BLE001 - whatever it is, the test fails by it
                failures.append(error)

    with SyncKeyValueStore(StorageConfig(path=tmp_path / "kv")) as kv:
        threads = [threading.Thread(target=write, args=(kv, mine)) for mine in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert failures == []
        assert all(len(list(kv.scan(table=f"t{number}"))) == 6 for number in range(10))


def test_threads_without_a_loop_use_the_sync_twin(tmp_path: Path) -> None:
    with SyncKeyValueStore(StorageConfig(path=tmp_path / "kv")) as kv:

        def count() -> None:
            for _ in range(20):
                while not kv.compare_and_set(b"n", held := kv.get(b"n"), b"%d" % (int(held or 0) + 1), durable=False):
                    pass

        threads = [threading.Thread(target=count) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert kv.get(b"n") == b"80"
        with kv.batch() as batch:
            batch.set(b"a", b"1")
            batch.delete(b"n")
        kv.set(b"b", b"2", ttl=100)
        kv.delete(b"a")
        assert list(kv.scan()) == [(b"b", b"2")]
        assert kv.exists(b"b")
        kv.flush()
        kv.compact()
        kv.backup(tmp_path / "copy")
        assert kv.stats()["syncs"] > 0
    with SyncKeyValueStore(StorageConfig(path=tmp_path / "copy")) as copy:
        assert list(copy.scan(b"b")) == [(b"b", b"2")]
