"""The rows "storage": the key-value store beside plain rocksdict, the history beside SQLite, in turn on the same disk."""

import asyncio
import sqlite3
import statistics
import tempfile
import threading
import time
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import rocksdict

from bench.rows import Options, Row, Say, median_row
from skerry.core.clock import ManualClock
from skerry.store import Archive, KeyValueStore, StorageConfig, SyncKeyValueStore

VALUE = b"v" * 100
TASKS = (1, 64, 1024)
GOALS = {1: "≥ 1,800", 64: "≥ 30,000", 1024: "≥ 80,000"}
HOUR, SECOND = 3_600_000_000, 1_000_000
BEGIN = 1_700_000_000_000_000 // HOUR * HOUR
SERIES, HOURS = 50, 20
CAP = 64 * 1024 * 1024
Samples = dict[str, tuple[np.ndarray, np.ndarray]]


class Lag:
    """How late a loop is, looked at each 2 ms."""

    def __init__(self) -> None:
        self.late_ms: list[float] = []

    async def watch(self) -> None:
        while True:
            before = time.perf_counter()
            await asyncio.sleep(0.002)
            self.late_ms.append(1000 * (time.perf_counter() - before) - 2)

    @property
    def p99(self) -> float:
        return sorted(self.late_ms)[int(0.99 * len(self.late_ms))] if self.late_ms else 0.0


async def rate_of(put: Callable[[bytes], Awaitable[Any]], tasks: int, seconds: float) -> tuple[float, float]:
    """Durable sets a second from so many tasks, and the loop's lag p99 in ms."""
    lag, done, stop = Lag(), 0, time.perf_counter() + seconds
    watching = asyncio.create_task(lag.watch())

    async def work(task: int) -> None:
        nonlocal done
        number = 0
        while time.perf_counter() < stop:
            await put(b"%d/%d" % (task, number))
            number += 1
            done += 1

    began = time.perf_counter()
    await asyncio.gather(*(work(task) for task in range(tasks)))
    took = time.perf_counter() - began
    watching.cancel()
    return done / took, lag.p99


async def sets(options: Options, say: Say) -> list[Row]:
    """Durable sets from 1, 64 and 1,024 tasks; the peer is `put` with sync, as rocksdict's documents have it."""
    rates: dict[int, tuple[list[float], list[float]]] = {tasks: ([], []) for tasks in TASKS}
    lags: tuple[list[float], list[float]] = ([], [])
    for _ in range(options.rounds):
        for tasks in TASKS:
            with tempfile.TemporaryDirectory(prefix="skerry-bench-", dir=Path.cwd()) as folder:
                async with KeyValueStore(StorageConfig(path=Path(folder) / "kv")) as kv:
                    mine, my_lag = await rate_of(partial(kv.set, value=VALUE), tasks, options.seconds)
                theirs, their_lag = await rate_of(plain_put(Path(folder) / "plain"), tasks, options.seconds)
            say(f"  {tasks} tasks: skerry {mine:,.0f}/s, lag p99 {my_lag:.1f} ms; rocksdict {theirs:,.0f}/s, {their_lag:.0f} ms")
            rates[tasks][0].append(mine)
            rates[tasks][1].append(theirs)
            if tasks == TASKS[-1]:
                lags[0].append(my_lag)
                lags[1].append(their_lag)
    found = [median_row("sets", f"durable sets/s, {tasks:,} tasks", "/s", GOALS[tasks], *rates[tasks]) for tasks in TASKS]
    return [*found, median_row("sets", "loop lag p99 at 1,024 tasks", "ms", "≤ 20", *lags)]


def plain_put(path: Path) -> Callable[[bytes], Awaitable[None]]:
    options = rocksdict.Options(raw_mode=True)
    options.create_if_missing(True)
    db, sync = rocksdict.Rdict(str(path), options), rocksdict.WriteOptions()
    sync.sync = True

    async def put(key: bytes) -> None:
        db.put(key, VALUE, sync)
        await asyncio.sleep(0)

    return put


def readings(jitter: bool, series: int = SERIES, hours: int = HOURS) -> Samples:
    """Walks with two decimals, one sample a second, exact or off by some milliseconds (normal, 3 ms)."""
    chance = np.random.default_rng(7)
    count = hours * 3600
    found = {}
    for at in range(series):
        times = BEGIN + np.arange(count) * SECOND
        if jitter:
            times = times + np.rint(chance.normal(0, 3, count)).astype(np.int64) * 1000
        found[f"box-{at}/x"] = times, np.round(20 + np.cumsum(chance.normal(0, 0.05, count)), 2)
    return found


def write_archive(path: Path, samples: Samples) -> tuple[Archive, SyncKeyValueStore, float]:
    """An archive of all samples, hour by hour; samples a second."""
    store = SyncKeyValueStore(StorageConfig(path=path))
    archive = Archive(store, clock=ManualClock(BEGIN + 24 * HOUR))
    began = time.perf_counter()
    for begin in range(0, len(next(iter(samples.values()))[0]), 3600):
        for name, (times, values) in samples.items():
            archive.append(name, times[begin : begin + 3600], values[begin : begin + 3600])
        archive.flush()
    return archive, store, total(samples) / (time.perf_counter() - began)


def write_sqlite(path: Path, samples: Samples) -> tuple[sqlite3.Connection, float]:
    """A table (series, time, value) with its primary key, a transaction an hour; samples a second."""
    db = sqlite3.connect(path, isolation_level=None)
    db.execute("pragma journal_mode = wal")
    db.execute("create table samples (series integer, time integer, value real, primary key (series, time)) without rowid")
    began = time.perf_counter()
    for begin in range(0, len(next(iter(samples.values()))[0]), 3600):
        db.execute("begin")
        for at, (times, values) in enumerate(samples.values()):
            part = slice(begin, begin + 3600)
            rows = zip([at] * 3600, times[part].tolist(), values[part].tolist(), strict=False)
            db.executemany("insert or replace into samples values (?, ?, ?)", rows)
        db.execute("commit")
    return db, total(samples) / (time.perf_counter() - began)


def total(samples: Samples) -> int:
    return sum(len(times) for times, _ in samples.values())


def block_bytes(store: SyncKeyValueStore) -> int:
    return sum(len(block) for _, block in store.scan(table="raw"))


async def history(options: Options, say: Say) -> list[Row]:
    """Bytes a sample, samples a second in and out, and one hour of one series; the peer is SQLite."""
    sizes: dict[bool, tuple[list[float], list[float]]] = {False: ([], []), True: ([], [])}
    speeds: dict[str, tuple[list[float], list[float]]] = {name: ([], []) for name in ("write", "scan", "hour")}
    for _ in range(options.rounds):
        for jitter in (False, True):
            samples = readings(jitter)
            with tempfile.TemporaryDirectory(prefix="skerry-bench-", dir=Path.cwd()) as folder:
                mine = measure_archive(Path(folder) / "kv", samples)
                theirs = measure_sqlite(Path(folder) / "sqlite", samples)
            for name, each in (("size", sizes[jitter]), *(speeds.items() if jitter else ())):
                each[0].append(mine[name])
                each[1].append(theirs[name])
            say(f"  {'jitter' if jitter else 'exact'}: skerry {told(mine)}; sqlite {told(theirs)}")
    return [
        median_row("history", "bytes/sample, 2 decimals, 3 ms jitter", "B", "≤ 1.25", *sizes[True]),
        median_row("history", "bytes/sample, 2 decimals, exact seconds", "B", "≤ 0.66", *sizes[False]),
        median_row("history", "written samples/s, with roll-ups", "/s", "≥ 3,000,000", *speeds["write"]),
        median_row("history", "scanned samples/s", "/s", "≥ 12,000,000", *speeds["scan"]),
        median_row("history", "one series, one hour, p50", "ms", "≤ 1", *speeds["hour"]),
    ]


def told(found: dict[str, float]) -> str:
    size, write, scan, hour = (found[name] for name in ("size", "write", "scan", "hour"))
    return f"{size:.2f} B, {write / 1e6:.2f} M/s in, {scan / 1e6:.1f} M/s out, {hour:.2f} ms an hour"


def measure_archive(path: Path, samples: Samples) -> dict[str, float]:
    archive, store, rate = write_archive(path, samples)
    with store:
        end = BEGIN + total(samples) // len(samples) * SECOND + HOUR
        began = time.perf_counter()
        count = sum(len(archive.query(name, 0, end)[0]) for name in samples)
        scan = count / (time.perf_counter() - began)
        assert count == total(samples)
        hour = [timed(partial(archive.query, name, BEGIN + HOUR, BEGIN + 2 * HOUR)) for name in samples]
        return {"size": block_bytes(store) / count, "write": rate, "scan": scan, "hour": statistics.median(hour)}


def measure_sqlite(path: Path, samples: Samples) -> dict[str, float]:
    db, rate = write_sqlite(path, samples)
    db.execute("pragma wal_checkpoint(truncate)")
    began = time.perf_counter()
    count = 0
    for at in range(len(samples)):
        rows = np.array(db.execute("select time, value from samples where series = ?", (at,)).fetchall())
        count += len(rows)
    scan = count / (time.perf_counter() - began)
    select = "select time, value from samples where series = ? and time >= ? and time < ?"

    def one_hour(series: int) -> np.ndarray:
        return np.array(db.execute(select, (series, BEGIN + HOUR, BEGIN + 2 * HOUR)).fetchall())

    hour = [timed(partial(one_hour, at)) for at in range(len(samples))]
    db.close()
    return {"size": path.stat().st_size / count, "write": rate, "scan": scan, "hour": statistics.median(hour)}


def timed(call: Callable[[], object]) -> float:
    began = time.perf_counter()
    call()
    return 1000 * (time.perf_counter() - began)


async def cap(options: Options, say: Say) -> list[Row]:
    """The most that `du` showed of a store of 64 MiB while ten times as much was written to it, as a share of its bound."""
    found = []
    for _ in range(options.rounds):
        with tempfile.TemporaryDirectory(prefix="skerry-bench-", dir=Path.cwd()) as folder:
            path, end, most = Path(folder) / "kv", threading.Event(), [0]
            looking = threading.Thread(target=watch, args=(path, end, most))
            looking.start()
            with SyncKeyValueStore(StorageConfig(path=path, max_size="64MiB", compression="none", evictable=("raw",))) as kv:
                chance = np.random.default_rng(1)
                for number in range(10 * CAP // (64 * 1024)):
                    kv.set(b"%08d" % (number * 7919 % 10_000), chance.bytes(64 * 1024), table="raw", durable=False)
                left = len(list(kv.scan(table="raw")))
            end.set()
            looking.join()
        say(f"  at most {most[0] / 1e6:.1f} MB of {CAP / 1e6:.1f} MB on the disk, {left} of {10 * CAP // (64 * 1024)} entries kept")
        found.append(most[0] / CAP)
    return [median_row("cap", "most bytes on disk ÷ max_size, writing 10 × as much", "", "≤ 1", found)]


def watch(path: Path, end: threading.Event, most: list[int]) -> None:
    while not end.wait(0.002):
        try:
            most[0] = max(most[0], sum(file.stat().st_blocks * 512 for file in path.rglob("*") if file.is_file()))
        except FileNotFoundError:
            continue


ROWS: dict[str, Callable[[Options, Say], Awaitable[list[Row]]]] = {"sets": sets, "history": history, "cap": cap}
