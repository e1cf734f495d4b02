"""One table of a store as a small map of names to bytes: the port that rooms above ask for (`skerry.core.ports.KeyValue`)."""

from skerry.store.key_value import KeyValueStore


class NamedValues:
    """Names are text; every change is durable when its call returns."""

    def __init__(self, store: KeyValueStore, table: str) -> None:
        self._store = store
        self._table = table

    async def get(self, key: str) -> bytes | None:
        """The value, or None."""
        return await self._store.get(key.encode(), table=self._table)

    async def set(self, key: str, value: bytes) -> None:
        """Set a value."""
        await self._store.set(key.encode(), value, table=self._table)

    async def delete(self, key: str) -> None:
        """Remove a value; one that is not there is no error."""
        await self._store.delete(key.encode(), table=self._table)

    async def items(self, prefix: str = "") -> list[tuple[str, bytes]]:
        """All names that begin so and their values, in order."""
        return [(key.decode(), value) async for key, value in self._store.scan(prefix.encode(), table=self._table)]
