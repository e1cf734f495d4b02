"""The engine without a disk: a dictionary for each table."""

import bisect
from collections.abc import Iterator, Sequence
from pathlib import Path

from skerry.core.errors import RejectedError
from skerry.store.engine import Change


class MemoryEngine:
    """Passes the same contract tests as RocksDB; forgets all at the end. Scans cost a copy of the keys."""

    def __init__(self) -> None:
        self._tables: dict[str, dict[bytes, bytes]] = {}

    def tables(self) -> list[str]:
        return list(self._tables)

    def ensure(self, table: str) -> None:
        self._tables.setdefault(table, {})

    def get(self, table: str, key: bytes) -> bytes | None:
        return self._tables.get(table, {}).get(key)

    def scan(self, table: str, begin: bytes, end: bytes) -> Iterator[tuple[bytes, bytes]]:
        whole = dict(self._tables.get(table, {}))
        keys = sorted(whole)
        until = bisect.bisect_left(keys, end) if end else len(keys)
        return ((key, whole[key]) for key in keys[bisect.bisect_left(keys, begin) : until])

    def view(self) -> "MemoryEngine":
        copy = MemoryEngine()
        copy._tables = {name: dict(table) for name, table in list(self._tables.items())}
        return copy

    def write(self, changes: Sequence[Change]) -> None:
        for table, key, data in changes:
            if data is None:
                self._tables[table].pop(key, None)
            else:
                self._tables[table][key] = data

    def sync(self) -> None:
        return

    def size(self) -> int:
        return sum(len(key) + len(data) for table in self._tables.values() for key, data in table.items())

    def compact(self) -> None:
        return

    def copy(self, directory: Path) -> None:
        raise RejectedError("a store in memory has no files to copy", where=str(directory))

    def end(self) -> None:
        return
