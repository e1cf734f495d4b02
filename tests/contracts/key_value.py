"""What every implementation of `skerry.core.ports.KeyValue` does, and a fake that does it in memory.

Use: subclass `KeyValueContract` as `Test…` with a fixture `store` that yields an empty store.
"""

import pytest

from skerry.core.ports import KeyValue


class MemoryKeyValue:
    """Keeps its values as long as it lives; counts the reads."""

    def __init__(self) -> None:
        self.values: dict[str, bytes] = {}
        self.reads = 0

    async def get(self, key: str) -> bytes | None:
        self.reads += 1
        return self.values.get(key)

    async def set(self, key: str, value: bytes) -> None:
        self.values[key] = value

    async def delete(self, key: str) -> None:
        self.values.pop(key, None)

    async def items(self, prefix: str = "") -> list[tuple[str, bytes]]:
        return sorted(item for item in self.values.items() if item[0].startswith(prefix))


@pytest.mark.asyncio
class KeyValueContract:
    """The contract."""

    async def test_what_was_set_is_read(self, store: KeyValue) -> None:
        await store.set("a", b"1")
        assert await store.get("a") == b"1"
        assert await store.get("b") is None

    async def test_the_last_value_holds(self, store: KeyValue) -> None:
        for value in (b"1", b"2", b""):
            await store.set("a", value)
        assert await store.get("a") == b""
        assert await store.items() == [("a", b"")]

    async def test_what_was_deleted_is_gone_and_may_come_back(self, store: KeyValue) -> None:
        await store.set("a", b"1")
        await store.delete("a")
        assert await store.get("a") is None
        assert await store.items() == []
        await store.set("a", b"2")
        assert await store.items() == [("a", b"2")]

    async def test_deleting_what_is_not_there_is_no_error(self, store: KeyValue) -> None:
        await store.delete("a")
        assert await store.get("a") is None

    async def test_items_are_in_order_and_by_prefix(self, store: KeyValue) -> None:
        for key in ("device/b", "device/a", "other/c", "device"):
            await store.set(key, key.encode())
        assert await store.items("device/") == [("device/a", b"device/a"), ("device/b", b"device/b")]
        assert [key for key, _ in await store.items()] == ["device", "device/a", "device/b", "other/c"]
        assert await store.items("nothing") == []

    @pytest.mark.parametrize("key", ["a.b", "a*", ">", "a b", "Ä/ü", "=", "a=", "$KV.x", "x" * 300])
    async def test_any_key_will_do(self, store: KeyValue, key: str) -> None:
        await store.set(key, b"1")
        await store.set(key + "+", b"2")
        assert await store.get(key) == b"1"
        assert sorted(await store.items(key)) == [(key, b"1"), (key + "+", b"2")]
        await store.delete(key)
        assert await store.items() == [(key + "+", b"2")]

    async def test_any_bytes_will_do(self, store: KeyValue) -> None:
        for value in (bytes(range(256)), b"\r\n", b"x" * 100_000):
            await store.set("a", value)
            assert await store.get("a") == value
            assert await store.items("a") == [("a", value)]

    async def test_many_keys_are_all_listed(self, store: KeyValue) -> None:
        names = [f"{number:04}" for number in range(700)]
        for name in names:
            await store.set(name, name.encode())
        await store.delete(names[3])
        assert [key for key, _ in await store.items()] == [name for name in names if name != names[3]]
