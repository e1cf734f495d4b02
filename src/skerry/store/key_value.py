"""`KeyValueStore`: keys to values on this machine's disk, for asyncio."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from itertools import islice
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from skerry.core.clock import Clock, SystemClock
from skerry.core.errors import UnavailableError
from skerry.store.committer import Put
from skerry.store.config import StorageConfig
from skerry.store.shelf import TABLE, Shelf

_CHUNK = 256


class Batch:
    """Changes that happen together or not at all, at the end of `async with`; an exception inside drops them."""

    def __init__(self, shelf: Shelf) -> None:
        self._shelf = shelf
        self.puts: list[Put] = []

    def set(self, key: bytes, value: bytes, *, table: str = TABLE, ttl: float | None = None) -> None:
        """As `KeyValueStore.set`."""
        self.puts.append(self._shelf.put(key, value, table, ttl))

    def delete(self, key: bytes, *, table: str = TABLE) -> None:
        """As `KeyValueStore.delete`."""
        self.puts.append(self._shelf.put(key, None, table))


class AsyncBatch(Batch):
    """What `KeyValueStore.batch()` gives."""

    def __init__(self, shelf: Shelf, durable: bool) -> None:
        super().__init__(shelf)
        self._durable = durable

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if kind is None and self.puts:
            await change(self._shelf, self.puts, self._durable)


def change(
    shelf: Shelf, puts: list[Put], durable: bool, expected: tuple[tuple[str, bytes, bytes | None], ...] = ()
) -> "asyncio.Future[bool]":
    """Hand changes to the committer from this loop."""
    loop = asyncio.get_running_loop()
    future: asyncio.Future[bool] = loop.create_future()
    shelf.submit(puts, durable, future, loop, expected)
    return future


class KeyValueStore:
    """Keys (bytes, 1 B to 64 KiB) to values (bytes, to 64 MiB) in named tables.

    With `durable=True`, the default, a change survives kill -9 and a power cut once its call has returned; calls that wait at the
    same time share one fsync. One process owns a directory. All calls raise `RejectedError` for keys and values that will not do,
    `StoreFull` where there is no room, `OverloadedError` over 64 MiB of waiting changes, `UnavailableError` when closed.

        async with KeyValueStore(StorageConfig(path="kv", max_size="64MiB")) as kv:
            await kv.set(b"k", b"v")
    """

    def __init__(self, config: StorageConfig, clock: Clock | None = None, *, memory: bool = False) -> None:
        self._config = config
        self._clock = clock or SystemClock()
        self._memory = memory
        self._shelf: Shelf | None = None

    async def open(self) -> None:
        """Open the directory. Raises `UnavailableError` where another process has it, `CorruptError` for a newer or damaged one."""
        self._shelf = await asyncio.to_thread(Shelf, self._config, self._clock, memory=self._memory)

    async def close(self) -> None:
        """Write what was asked for and let go of the directory. Twice is once."""
        if self._shelf is not None:
            await asyncio.to_thread(self._shelf.close)

    async def __aenter__(self) -> Self:
        await self.open()
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        await self.close()

    @property
    def _open(self) -> Shelf:
        if self._shelf is None:
            raise UnavailableError("the store is not open", where=str(self._config.path), mend="use `async with`")
        return self._shelf

    async def get(self, key: bytes, *, table: str = TABLE) -> bytes | None:
        """The value, or None."""
        return self._open.get(key, table)

    async def exists(self, key: bytes, *, table: str = TABLE) -> bool:
        """Whether there is a value."""
        return self._open.get(key, table) is not None

    async def set(self, key: bytes, value: bytes, *, table: str = TABLE, ttl: float | None = None, durable: bool = True) -> None:
        """Set a value; with `ttl` it ends after so many seconds."""
        await self._change([self._open.put(key, value, table, ttl)], durable)

    async def delete(self, key: bytes, *, table: str = TABLE, durable: bool = True) -> None:
        """Remove a value; one that is not there is no error."""
        await self._change([self._open.put(key, None, table)], durable)

    async def compare_and_set(
        self, key: bytes, expected: bytes | None, value: bytes | None, *, table: str = TABLE, durable: bool = True
    ) -> bool:
        """Set (or with None delete) if the value is the expected one, None for not there; answers whether it was."""
        shelf = self._open
        return await self._change([shelf.put(key, value, table)], durable, ((shelf.table(table), key, expected),))

    def _change(
        self, puts: list[Put], durable: bool, expected: tuple[tuple[str, bytes, bytes | None], ...] = ()
    ) -> "asyncio.Future[bool]":
        return change(self._open, puts, durable, expected)

    def batch(self, *, durable: bool = True) -> AsyncBatch:
        """`async with kv.batch() as b: b.set(…); b.delete(…)`: all or nothing."""
        return AsyncBatch(self._open, durable)

    async def scan(
        self, prefix: bytes = b"", *, begin: bytes = b"", end: bytes = b"", table: str = TABLE
    ) -> AsyncIterator[tuple[bytes, bytes]]:
        """Keys and values in order, as they stood at the first step: of a prefix, of `[begin, end)`, or all."""
        async for row in _streamed(self._open.rows(prefix, begin, end, table)):
            yield row

    def snapshot(self) -> "Snapshot":
        """`async with kv.snapshot() as view:`: `get` and `scan` of all tables as they stand now, whatever is written meanwhile."""
        return Snapshot(self._open)

    async def flush(self) -> None:
        """Return when all changes so far, durable or not, are on the disk."""
        await self._change([], True)

    async def compact(self) -> None:
        """Give the room of deleted entries back to the disk."""
        await asyncio.to_thread(self._open.engine.compact)

    async def backup(self, directory: str | Path) -> None:
        """A consistent copy into a new directory, while others write; `open` takes it as it is."""
        await self.flush()
        await asyncio.to_thread(self._open.copy, Path(directory))

    @property
    def stopped(self) -> str:
        """The I/O error after which it takes nothing until it is opened again; empty while it works."""
        return self._open.committer.stopped

    def stats(self) -> dict[str, Any]:
        """bytes on disk and their bound, tables, and counts of groups, syncs, requests, refused, expired, evicted."""
        return self._open.stats()


class Snapshot:
    """The store as it stood when this was made. Holds deleted room until it is left."""

    def __init__(self, shelf: Shelf) -> None:
        self._shelf = shelf
        self._view = shelf.engine.view()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._view.end()

    async def get(self, key: bytes, *, table: str = TABLE) -> bytes | None:
        """The value at that moment, or None."""
        return self._shelf.get(key, table, self._view)

    async def scan(
        self, prefix: bytes = b"", *, begin: bytes = b"", end: bytes = b"", table: str = TABLE
    ) -> AsyncIterator[tuple[bytes, bytes]]:
        """As `KeyValueStore.scan`, at that moment."""
        async for row in _streamed(self._shelf.rows(prefix, begin, end, table, self._view)):
            yield row


async def _streamed(rows: Iterator[tuple[bytes, bytes]]) -> AsyncIterator[tuple[bytes, bytes]]:
    while chunk := await asyncio.to_thread(_next, rows):
        for row in chunk:
            yield row


def _next(rows: Iterator[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
    return list(islice(rows, _CHUNK))
