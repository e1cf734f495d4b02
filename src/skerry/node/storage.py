"""The node's own store: opened when it is first asked for, so that a node that keeps nothing in it pays nothing."""

import asyncio
from typing import TYPE_CHECKING

from skerry.config import NodeConfig
from skerry.core import log
from skerry.core.clock import Clock
from skerry.core.errors import SkerryError

if TYPE_CHECKING:
    from skerry.store import KeyValueStore

REOPEN_S = 5.0
_log = log.get("store")


class NodeStorage:
    """Opens `[storage]` once, and again after an I/O error that stopped it; `close` ends it."""

    def __init__(self, config: NodeConfig, clock: Clock) -> None:
        self._config = config
        self._clock = clock
        self._opening = asyncio.Lock()
        self._store: KeyValueStore | None = None
        self._tried = 0.0
        self._stopped = ""

    async def store(self) -> "KeyValueStore":
        """The store, open. Raises `UnavailableError` where another process has it, `CorruptError` for a damaged one."""
        async with self._opening:
            if self._store is not None and self._store.stopped and self._clock.monotonic() - self._tried >= REOPEN_S:
                await self._let_go(self._store)
            if self._store is None:
                self._store = await self._opened()
            return self._store

    async def _opened(self) -> "KeyValueStore":
        from skerry.store import KeyValueStore, StorageConfig  # late: 20 MB of memory

        self._tried = self._clock.monotonic()
        section = self._config.storage
        found = KeyValueStore(StorageConfig(self._config.store_path, section.max_size, section.compression), self._clock)
        await found.open()
        if self._stopped:
            _log.warning(f"the store was opened again after an I/O error: {self._stopped}")
            self._stopped = ""
        return found

    async def _let_go(self, store: "KeyValueStore") -> None:
        """Close one that takes nothing more: what it had acknowledged is on the disk, what it had not may be gone."""
        self._store, self._stopped = None, store.stopped
        try:
            await store.close()
        except SkerryError as error:
            _log.warning(f"the store that an I/O error stopped did not close well: {error}")

    def warnings(self) -> list[str]:
        """What a person should look at."""
        why = self._stopped or (self._store.stopped if self._store is not None else "")
        return [f"the store takes nothing since an I/O error, it is opened again when it is next asked for: {why}"] if why else []

    async def close(self) -> None:
        """Write what was asked for and let go of the directory."""
        if self._store is not None:
            await self._store.close()
