"""RocksDB as the store's engine. The only module that touches rocksdict.

Settings and traps: docs/adr (storage engine). Writes hold the interpreter's lock, `flush_wal` does not: so writes go without sync,
and `sync` is the one call that waits for the disk. A live iterator keeps the directory locked: `close` takes them all back.
"""

import contextlib
import errno
import os
import threading
import weakref
from collections.abc import Iterator, Sequence
from pathlib import Path

import rocksdict

from skerry.core.errors import CorruptError, SkerryError, UnavailableError
from skerry.core.units import parse_size
from skerry.store.config import MIB, StorageConfig
from skerry.store.engine import Change, DiskFull, View

_CHUNK, _SLICE = 256, 4 * MIB
_DAMAGE = ("Corruption", "checksum", "Invalid argument: Missing")
_COMPRESSION = {
    "none": rocksdict.DBCompressionType.none,
    "lz4": rocksdict.DBCompressionType.lz4,
    "zstd": rocksdict.DBCompressionType.zstd,
}


class RocksEngine:
    """One RocksDB directory, opened by this process alone."""

    def __init__(self, directory: Path, config: StorageConfig) -> None:
        self._directory = directory
        self._config = config
        self._cache = rocksdict.Cache(parse_size(config.cache))
        self._held: weakref.WeakSet[_Cursor] = weakref.WeakSet()
        self._writing = threading.Lock()
        self._db: rocksdict.Rdict | None = None
        self._tables: dict[str, rocksdict.Rdict] = {}
        self._handles: dict[str, rocksdict.ColumnFamily] = {}
        with _mapped(directory):
            names = rocksdict.Rdict.list_cf(str(directory)) if (directory / "CURRENT").exists() else []
            families = {name: self._options() for name in names if name != "default"}
            self._db = rocksdict.Rdict(str(directory), self._options(), column_families=families or None)
            for name in families:
                self._open(name)

    def _options(self) -> rocksdict.Options:
        config, options, blocks = self._config, rocksdict.Options(raw_mode=True), rocksdict.BlockBasedOptions()
        buffer = parse_size(config.write_buffer)
        blocks.set_block_cache(self._cache)
        blocks.set_cache_index_and_filter_blocks(True)
        blocks.set_bloom_filter(10, False)
        blocks.set_block_size(16 * 1024)
        options.set_block_based_table_factory(blocks)
        options.create_if_missing(True)
        options.create_missing_column_families(True)
        options.set_compression_type(_COMPRESSION[config.compression]())
        options.set_write_buffer_size(buffer // 2)
        options.set_db_write_buffer_size(buffer)
        options.set_max_write_buffer_number(2)
        options.set_max_total_wal_size(2 * buffer)
        options.set_max_open_files(64)
        files = min(8 * MIB, max(MIB, buffer // 2))
        options.set_target_file_size_base(files)
        options.set_max_compaction_bytes(4 * files)
        options.set_max_bytes_for_level_base(4 * files)
        options.set_max_background_jobs(2)
        options.set_keep_log_file_num(2)
        options.set_max_log_file_size(MIB)
        options.set_paranoid_checks(True)
        options.set_wal_recovery_mode(rocksdict.DBRecoveryMode.point_in_time())
        return options

    def _open(self, name: str) -> None:
        self._handles[name] = self._db_open.get_column_family_handle(name)
        self._tables[name] = self._db_open.get_column_family(name)  # last: who finds it here may write to it

    @property
    def _db_open(self) -> rocksdict.Rdict:
        if self._db is None:
            raise UnavailableError("the store is closed", where=str(self._directory))
        return self._db

    def tables(self) -> list[str]:
        return list(self._tables)

    def ensure(self, table: str) -> None:
        if table in self._tables:
            return
        with self._writing, _mapped(self._directory):
            if table not in self._tables:  # another thread may have been first
                self._db_open.create_column_family(table, self._options())
                self._open(table)

    def get(self, table: str, key: bytes) -> bytes | None:
        found: bytes | None = None
        with _mapped(self._directory):
            if (there := self._table(table)) is not None:
                found = there.get(key)
        return found

    def _table(self, name: str) -> rocksdict.Rdict | None:
        if self._db is None:
            raise UnavailableError("the store is closed", where=str(self._directory))
        return self._tables.get(name)

    def scan(self, table: str, begin: bytes, end: bytes) -> Iterator[tuple[bytes, bytes]]:
        with _mapped(self._directory):
            source = self._table(table)
            found = _Cursor(self._directory, {} if source is None else {table: source.iter()})
        self._held.add(found)
        return found.scan(table, begin, end)

    def steps(self, table: str, begin: bytes, *, verify: bool = True) -> Iterator[tuple[bytes, bytes]]:
        """Rows from `begin` on, each that can be read before it raises `CorruptError`; check sums count where `verify` says so."""
        options = rocksdict.ReadOptions()
        options.set_verify_checksums(verify)
        # what was not verified must not be found in the cache later
        options.fill_cache(verify)  # type: ignore[call-arg]  # rocksdict's stubs leave the argument out
        with _mapped(self._directory):
            at = self._tables[table].iter(options)
            at.seek(begin)
            while at.valid():
                yield at.key(), at.value()
                at.next()
            at.status()

    def steps_back(self, table: str, end: bytes) -> Iterator[bytes]:
        """Keys below `end` (empty: from the last one) in falling order, each that can be read before it raises `CorruptError`."""
        with _mapped(self._directory):
            at = self._tables[table].iter()
            if end:
                at.seek_for_prev(end)
            else:
                at.seek_to_last()
            while at.valid():
                if not end or at.key() < end:
                    yield at.key()
                at.prev()
            at.status()

    def boundaries(self) -> list[bytes]:
        """First keys of all files, in order."""
        with _mapped(self._directory):
            return sorted({file["start_key"] for file in self._db_open.live_files()})

    def view(self) -> View:
        with self._writing, _mapped(self._directory):
            found = _Cursor(self._directory, {name: table.iter() for name, table in self._tables.items()})
        self._held.add(found)
        return found

    def write(self, changes: Sequence[Change]) -> None:
        batch = rocksdict.WriteBatch(raw_mode=True)
        for table, key, data in changes:
            if data is None:
                batch.delete(key, self._handles[table])
            else:
                batch.put(key, data, self._handles[table])
        with self._writing, _mapped(self._directory):
            self._db_open.write(batch)

    def sync(self) -> None:
        with _mapped(self._directory):
            self._db_open.flush_wal(True)

    def size(self) -> int:
        total = 0
        with os.scandir(self._directory) as files:
            for file in files:
                with contextlib.suppress(FileNotFoundError):
                    total += file.stat(follow_symlinks=False).st_blocks * 512
        return total

    def compact(self) -> None:
        with _mapped(self._directory):
            tables = list(self._tables.values())  # others may be made meanwhile
            for table in tables:
                table.flush()
            slices = self._slices()
            for table in tables:
                for begin, end in slices:
                    table.compact_range(begin, end)

    def _slices(self) -> list[tuple[bytes, bytes]]:
        """Ranges of keys that are compacted one after the other, so that what is rewritten at one time stays small."""
        slices: list[tuple[bytes, bytes]] = []
        size = 0
        for file in sorted(self._db_open.live_files(), key=lambda file: file["start_key"]):
            if not slices or size > _SLICE:
                slices.append((file["start_key"], file["end_key"]))
                size = 0
            slices[-1] = (slices[-1][0], max(slices[-1][1], file["end_key"]))
            size += file["size"]
        return slices

    def copy(self, directory: Path) -> None:
        with _mapped(self._directory):
            for table in list(self._tables.values()):
                table.flush()
            rocksdict.Checkpoint(self._db_open).create_checkpoint(str(directory))

    def end(self) -> None:
        if self._db is None:
            return
        for held in list(self._held):
            held.end()
        db, self._db = self._db, None
        self._handles.clear()
        self._tables.clear()
        with _mapped(self._directory):
            db.close()


class _Cursor:
    """Tables at one moment, that the engine can take back: an iterator a table, which sees what was there when it was made.

    rocksdict 0.3.29's own snapshots show later values to iterators, and its `items()` ends in silence where a block is damaged.
    """

    def __init__(self, directory: Path, tables: dict[str, rocksdict.RdictIter]) -> None:
        self._directory = directory
        self._tables: dict[str, rocksdict.RdictIter] | None = tables
        self._moving = threading.Lock()

    def get(self, table: str, key: bytes) -> bytes | None:
        found = self._rows(table, key, 1)
        return found[0][1] if found and found[0][0] == key else None

    def scan(self, table: str, begin: bytes, end: bytes) -> Iterator[tuple[bytes, bytes]]:
        while rows := self._rows(table, begin, _CHUNK):
            for row in rows:
                if end and row[0] >= end:
                    return
                yield row
            begin = rows[-1][0] + b"\0"

    def _rows(self, table: str, begin: bytes, most: int) -> list[tuple[bytes, bytes]]:
        rows: list[tuple[bytes, bytes]] = []
        with self._moving, _mapped(self._directory):
            if self._tables is None:
                raise UnavailableError("the store is closed", where=str(self._directory))
            if (at := self._tables.get(table)) is None:
                return rows
            at.seek(begin)
            while len(rows) < most and at.valid():
                rows.append((at.key(), at.value()))
                at.next()
            at.status()
        return rows

    def end(self) -> None:
        with self._moving:
            self._tables = None


def rebuild(directory: Path) -> None:
    """Let RocksDB make a directory that does not open into one that does, from what is left of its files."""
    with _mapped(directory):
        rocksdict.Rdict.repair(str(directory), rocksdict.Options(raw_mode=True))


@contextlib.contextmanager
def _mapped(directory: Path) -> Iterator[None]:
    try:
        yield
    except (SkerryError, StopIteration, KeyError):
        raise
    except rocksdict.DbClosedError as error:
        raise UnavailableError("the store is closed", where=str(directory)) from error
    except Exception as error:  # rocksdict's errors have no type of their own
        raise _of(str(error), directory) from error


def _of(text: str, directory: Path) -> SkerryError:
    where = str(directory)
    if any(sign in text for sign in _DAMAGE):
        return CorruptError(text, where=where, mend="`skerry kv repair` saves what can be read")
    if os.strerror(errno.ENOSPC) in text:
        return DiskFull("the disk is full", where=where, mend="make room on the disk")
    if os.strerror(errno.EIO) in text:
        return UnavailableError(text, where=where, mend="mend the disk, then open the store again: until then it takes nothing")
    return UnavailableError(text, where=where)
