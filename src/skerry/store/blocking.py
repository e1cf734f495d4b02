"""The key-value store for programs without a loop: the same calls, waiting."""

from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from skerry.core.clock import Clock, SystemClock
from skerry.store.committer import Put
from skerry.store.config import StorageConfig
from skerry.store.key_value import Batch
from skerry.store.shelf import TABLE, Shelf


class SyncKeyValueStore:
    """`KeyValueStore` with calls that wait; good from any number of threads. Open from the first line on; `with` closes it."""

    def __init__(self, config: StorageConfig, clock: Clock | None = None, *, memory: bool = False) -> None:
        self._shelf = Shelf(config, clock or SystemClock(), memory=memory)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Write what was asked for and let go of the directory. Twice is once."""
        self._shelf.close()

    def get(self, key: bytes, *, table: str = TABLE) -> bytes | None:
        """The value, or None."""
        return self._shelf.get(key, table)

    def exists(self, key: bytes, *, table: str = TABLE) -> bool:
        """Whether there is a value."""
        return self._shelf.get(key, table) is not None

    def set(self, key: bytes, value: bytes, *, table: str = TABLE, ttl: float | None = None, durable: bool = True) -> None:
        """Set a value; with `ttl` it ends after so many seconds."""
        self._change([self._shelf.put(key, value, table, ttl)], durable)

    def delete(self, key: bytes, *, table: str = TABLE, durable: bool = True) -> None:
        """Remove a value; one that is not there is no error."""
        self._change([self._shelf.put(key, None, table)], durable)

    def compare_and_set(
        self, key: bytes, expected: bytes | None, value: bytes | None, *, table: str = TABLE, durable: bool = True
    ) -> bool:
        """Set (or with None delete) if the value is the expected one, None for not there; answers whether it was."""
        return self._change([self._shelf.put(key, value, table)], durable, ((self._shelf.table(table), key, expected),))

    def _change(self, puts: Sequence[Put], durable: bool, expected: tuple[tuple[str, bytes, bytes | None], ...] = ()) -> bool:
        future: Future[bool] = Future()
        self._shelf.submit(puts, durable, future, None, expected)
        return future.result()

    @contextmanager
    def batch(self, *, durable: bool = True) -> Iterator[Batch]:
        """`with kv.batch() as b: b.set(…); b.delete(…)`: all or nothing; an exception inside drops it."""
        batch = Batch(self._shelf)
        yield batch
        if batch.puts:
            self._change(batch.puts, durable)

    def scan(
        self, prefix: bytes = b"", *, begin: bytes = b"", end: bytes = b"", table: str = TABLE
    ) -> Iterator[tuple[bytes, bytes]]:
        """Keys and values in order, as they stood at the call: of a prefix, of `[begin, end)`, or all."""
        return self._shelf.rows(prefix, begin, end, table)

    def flush(self) -> None:
        """Return when all changes so far, durable or not, are on the disk."""
        self._change([], True)

    def compact(self) -> None:
        """Give the room of deleted entries back to the disk."""
        self._shelf.engine.compact()

    def backup(self, directory: str | Path) -> None:
        """A consistent copy into a new directory, while others write; a store opens it as it is."""
        self.flush()
        self._shelf.copy(Path(directory))

    @property
    def stopped(self) -> str:
        """The I/O error after which it takes nothing until it is opened again; empty while it works."""
        return self._shelf.committer.stopped

    def stats(self) -> dict[str, Any]:
        """bytes on disk and their bound, tables, and counts of groups, syncs, requests, refused, expired, evicted."""
        return self._shelf.stats()
