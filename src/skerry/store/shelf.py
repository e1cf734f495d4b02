"""An open store: its directory, its engine and its committer. What the async and the sync face share."""

import asyncio
import contextlib
import errno
import os
import shutil
from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import msgspec

from skerry.core.clock import Clock
from skerry.core.errors import CorruptError, RejectedError, UnavailableError
from skerry.core.files import sync_names
from skerry.core.units import parse_size
from skerry.runtime import DirectoryLock
from skerry.store.committer import AGE, EXPIRY, Committer, Put, Request, ends_at
from skerry.store.config import MIB, StorageConfig
from skerry.store.engine import DiskFull, Engine, View
from skerry.store.entry import after_prefix, check_key, check_table, check_value, decode
from skerry.store.memory import MemoryEngine
from skerry.store.room import Room

FORMAT = 1
TABLE = "kv"
_ROW_COST = 32


class Shelf:
    """Opens the directory (or nothing but memory), and closes it once. All calls are good from any thread.

    Raises `UnavailableError` where another process has it (its pid is named), `CorruptError` for a damaged or newer one.
    """

    def __init__(self, config: StorageConfig, clock: Clock, *, memory: bool = False) -> None:
        self._clock = clock
        self._lock: DirectoryLock | None = None
        self._closed = False
        self._known: set[str] = set()
        self.config = config
        if memory:
            self.engine: Engine = MemoryEngine()
            room = Room(self.engine, None, config.max_bytes, 0, 0)
        else:
            self.engine, room = self._open(config)
        self.room = room
        for table in (TABLE, *config.evictable):
            check_table(table)
            self.engine.ensure(table)
        self.committer = Committer(self.engine, room, clock, config.evictable)

    def _open(self, config: StorageConfig) -> tuple[Engine, Room]:
        from skerry.store.rocks import RocksEngine  # late: 20 MB that only a process with a store pays for

        directory = config.directory
        with _mapped("the store cannot be opened", directory):
            new = [each for each in (directory, *directory.absolute().parents) if not each.exists()]
            directory.mkdir(parents=True, exist_ok=True, mode=0o700)
            self._lock = DirectoryLock(directory)
            self._lock.take()
        try:
            with _mapped("the store cannot be opened", directory):
                _check_format(directory)
            sized = fit(config)
            engine = RocksEngine(directory / "db", sized)
            # a file is on the disk when its name is, and its directory's name
            with _mapped("the store cannot be opened", directory):
                for each in {directory, *(made.parent for made in new)}:
                    sync_names(each)
            buffer = parse_size(sized.write_buffer)
            return engine, Room(engine, directory, config.max_bytes, 5 * buffer + config.max_bytes // 16, buffer)
        except BaseException:
            self._lock.release()
            raise

    def close(self) -> None:
        """Write what was asked for and let go of the directory. Twice is once."""
        if self._closed:
            return
        self._closed = True
        self.committer.close()
        try:
            self.engine.end()
        finally:
            if self._lock is not None:
                self._lock.release()

    def table(self, name: str) -> str:
        """The name, checked, its table made where it is new."""
        if name not in self._known:
            check_table(name)
            if name not in (known := self.engine.tables()) and len(known) >= 64:
                raise RejectedError("a store has at most 62 tables of its own", where=name, mend="put a prefix before the keys")
            self.engine.ensure(name)
            self._known.add(name)
        return name

    def get(self, key: bytes, table: str, view: View | None = None) -> bytes | None:
        check_key(key)
        data = (view or self.engine).get(table, key)
        if data is None:
            return None
        entry = decode(data)
        return entry.value if entry.alive(self._clock.now()) else None

    def rows(self, prefix: bytes, begin: bytes, end: bytes, table: str, view: View | None = None) -> Iterator[tuple[bytes, bytes]]:
        """Live entries in order, as they stood at the call: of a prefix, or from `begin` up to but without `end`."""
        if prefix and (begin or end):
            raise RejectedError("a scan is of a prefix or of a range, not of both", mend="leave prefix out, or begin and end")
        if prefix:
            begin, end = prefix, after_prefix(prefix)
        scan = (view or self.engine).scan(table, begin, end)
        return self._alive(scan, self._clock.now())

    @staticmethod
    def _alive(scan: Iterator[tuple[bytes, bytes]], now: int) -> Iterator[tuple[bytes, bytes]]:
        for key, data in scan:
            entry = decode(data)
            if entry.alive(now):
                yield key, entry.value

    def put(self, key: bytes, value: bytes | None, table: str, ttl: float | None = None) -> Put:
        """A checked change. `ttl`: seconds."""
        check_key(key)
        if value is not None:
            check_value(value)
        if ttl is None:
            return Put(self.table(table), key, value)
        if not 0 < ttl < 1e10:
            raise RejectedError(f"{ttl} is no time to live", where="ttl", mend="give seconds, more than 0")
        return Put(self.table(table), key, value, ends_at(self._clock.now(), ttl))

    def submit(
        self,
        puts: Sequence[Put],
        durable: bool,
        future: "asyncio.Future[bool] | Future[bool]",
        loop: asyncio.AbstractEventLoop | None,
        expected: Sequence[tuple[str, bytes, bytes | None]] = (),
    ) -> None:
        """Hand changes to the committer; the future gets whether what was expected was there."""
        size = 0
        for _, key, value, _ in puts:
            size += len(key) + (len(value) if value else 0) + _ROW_COST
        self.committer.submit(Request(puts, expected, durable, future, loop, size))

    def copy(self, directory: Path) -> None:
        """A consistent copy of what is written, as a store of its own; nothing of one that fails is left.

        Raises `RejectedError` for a directory that is not empty, `UnavailableError` where the disk does not do its part."""
        if directory.exists() and any(directory.iterdir()):
            raise RejectedError("is not empty", where=str(directory), mend="name a new directory")
        try:
            with _mapped("the copy cannot be made", directory):
                directory.mkdir(parents=True, exist_ok=True, mode=0o700)
                self.engine.copy(directory / "db")
                _write_format(directory / "format")
                for each in (directory, directory.parent):
                    sync_names(each)
        except UnavailableError:
            shutil.rmtree(directory, ignore_errors=True)
            raise

    def stats(self) -> dict[str, Any]:
        """bytes on disk and their bound, tables, and the committer's counts."""
        own = [name for name in self.engine.tables() if name not in (EXPIRY, AGE)]
        return {"bytes": self.room.used, "limit": self.room.limit, "tables": own, **self.committer.counts}


def fit(config: StorageConfig) -> StorageConfig:
    """The configuration with a write buffer that leaves room for entries in a small store."""
    most = max(MIB, config.max_bytes // 16)
    return config if parse_size(config.write_buffer) <= most else msgspec.structs.replace(config, write_buffer=f"{most}B")


@contextlib.contextmanager
def _mapped(what: str, directory: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        kind = DiskFull if error.errno == errno.ENOSPC else UnavailableError
        raise kind(f"{what}: {error.strerror}", where=str(directory)) from error


def _check_format(directory: Path) -> None:
    path = directory / "format"
    if path.exists():
        text = path.read_text("ascii", "replace").strip()
        if text != str(FORMAT):
            raise CorruptError(
                f"the store has format {text[:20]!r}, this version reads {FORMAT}", where=str(directory),
                mend="run the version that wrote it",
            )  # fmt: skip
        return
    if (directory / "db" / "CURRENT").exists():
        raise CorruptError("the store's format file is missing", where=str(path), mend=f"write {FORMAT} into it")
    _write_format(path)


def _write_format(path: Path) -> None:
    temporary = path.with_suffix(".new")
    with temporary.open("w", encoding="ascii") as file:
        file.write(f"{FORMAT}\n")
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)
