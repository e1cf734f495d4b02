"""What can be read of a damaged store, saved into a new one.

A block that is not what was written ends a walk over its table. The keys in it are then read without looking at check sums, only to
find the first one behind it that can be read with them; the walk goes on from there.
"""

import contextlib
import shutil
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import msgspec

from skerry.core.clock import SystemClock
from skerry.core.errors import CorruptError, RejectedError, UnavailableError
from skerry.runtime import DirectoryLock
from skerry.store.config import StorageConfig
from skerry.store.engine import Change
from skerry.store.rocks import RocksEngine, rebuild
from skerry.store.shelf import Shelf, fit

_ROWS, _WIDTH, _PROBES = 512, 24, 256
Row = tuple[bytes, bytes]


def repair(config: StorageConfig, into: Path) -> int:
    """Save all entries that can be read into a store in a new directory; the damaged one stays as it is. Answers how many.

    Raises `RejectedError` for a directory that is not empty, `UnavailableError` where a process has the store or there is none.
    """
    if into.exists() and any(into.iterdir()):
        raise RejectedError("is not empty", where=str(into), mend="name a new directory")
    if not (config.directory / "db").is_dir():
        raise UnavailableError("there is no store", where=str(config.directory))
    lock = DirectoryLock(config.directory)
    lock.take()
    copied = into.with_name(f".{into.name}.copy")
    try:
        shutil.copytree(config.directory / "db", copied)
        engine = _opened(copied, config)
        with contextlib.closing(Shelf(msgspec.structs.replace(config, path=into), SystemClock())) as new:
            saved = sum(_save(engine, new, table) for table in engine.tables())
        engine.end()
        return saved
    finally:
        shutil.rmtree(copied, ignore_errors=True)
        lock.release()


def _opened(directory: Path, config: StorageConfig) -> RocksEngine:
    try:
        return RocksEngine(directory, fit(config))
    except (CorruptError, UnavailableError):
        rebuild(directory)
        return RocksEngine(directory, fit(config))


def _save(engine: RocksEngine, new: Shelf, table: str) -> int:
    new.engine.ensure(table)
    rows = _readable(engine, table)
    count = 0
    while chunk := list(islice(rows, _ROWS)):
        new.engine.write([Change(table, key, data) for key, data in chunk])
        count += len(chunk)
    new.engine.sync()
    # what the indexes say is for the store itself
    return 0 if table.startswith("$") else count


def _readable(engine: RocksEngine, table: str) -> Iterator[Row]:
    """Every entry of a table that can be read."""
    next_key: bytes | None = b""
    while next_key is not None:
        begin = next_key
        try:
            for row in engine.steps(table, begin):
                begin = row[0] + b"\0"
                yield row
        except CorruptError:
            next_key = _behind_damage(engine, table, begin)
        else:
            return


def _behind_damage(engine: RocksEngine, table: str, begin: bytes) -> bytes | None:
    """The next key that can be read, None where there is none: keys are looked up without check sums, and tried with them."""
    last = begin
    try:
        for key, _ in engine.steps(table, begin, verify=False):
            last = max(last, key)
            if key >= begin and _can_be_read(engine, table, key):
                return key
    except CorruptError:
        # not even its keys can be told: come from behind, from the next file
        end = _first_readable(engine, table, last, next((key for key in engine.boundaries() if key > last), b""))
        probed = (_first_from(engine, table, probe) for probe in _between(last, end or b""))
        return next((found for found in probed if found is not None), end)
    return None


def _between(low: bytes, high: bytes) -> Iterator[bytes]:
    """Some keys in even steps between two, in order; an empty `high` is behind all."""
    first = int.from_bytes(low[:_WIDTH].ljust(_WIDTH, b"\0"))
    last = int.from_bytes(high[:_WIDTH].ljust(_WIDTH, b"\0") if high else b"\xff" * _WIDTH)
    for at in range(1, _PROBES):
        yield (first + (last - first) * at // _PROBES).to_bytes(_WIDTH)


def _first_from(engine: RocksEngine, table: str, probe: bytes) -> bytes | None:
    try:
        return next((key for key, _ in engine.steps(table, probe)), None)
    except CorruptError:
        return None


def _first_readable(engine: RocksEngine, table: str, last: bytes, end: bytes) -> bytes | None:
    """The first of the keys before `end` (empty: before the end of all) that follow the damage without a gap; else `end` itself."""
    found = end
    try:
        for key in engine.steps_back(table, end):
            if key <= last:
                break
            found = key
    except CorruptError:
        pass
    return found or None


def _can_be_read(engine: RocksEngine, table: str, key: bytes) -> bool:
    try:
        return engine.get(table, key) is not None
    except CorruptError:
        return False
