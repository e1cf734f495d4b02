"""The registry: what is added is found, what is revoked stays refused, what is damaged is named; over the key-value port."""

import asyncio
import json

import pytest

from skerry.core.clock import SECOND, ManualClock
from skerry.core.errors import CorruptError, RejectedError
from skerry.device import DeviceRegistry
from skerry.trust import passwords, verify_password
from tests.contracts.key_value import KeyValueContract, MemoryKeyValue

NOON = 1_795_521_600 * SECOND


@pytest.fixture(autouse=True)
def cheap_hashes(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a hash costs is not what is tested here."""
    monkeypatch.setattr(passwords, "LOG2_N", 4)


class TestMemoryKeyValue(KeyValueContract):
    @pytest.fixture
    def store(self) -> MemoryKeyValue:
        return MemoryKeyValue()


@pytest.fixture
def store() -> MemoryKeyValue:
    return MemoryKeyValue()


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(NOON)


@pytest.fixture
def registry(store: MemoryKeyValue, clock: ManualClock) -> DeviceRegistry:
    return DeviceRegistry(store, clock)


@pytest.mark.asyncio
async def test_a_device_is_kept_with_all_that_was_said(registry: DeviceRegistry, store: MemoryKeyValue) -> None:
    await registry.add("pump-1", "hash", ["sub:events/#"])
    found = await DeviceRegistry(store, ManualClock()).find("pump-1")
    assert found is not None
    assert (found.id, found.password, found.topics, found.created, found.revoked) == ("pump-1", "hash", ("sub:events/#",), NOON, 0)
    assert await registry.find("pump-2") is None


@pytest.mark.asyncio
async def test_a_made_password_is_shown_once_and_fits(registry: DeviceRegistry, store: MemoryKeyValue) -> None:
    made = await registry.add_with_password("pump-1", None)
    found = await registry.find("pump-1")
    assert found is not None
    assert verify_password(made["password"], found.password)
    row = await registry.row("pump-1")
    assert row == {key: value for key, value in made.items() if key != "password"}
    assert made["password"].encode() not in store.values["device/pump-1"]
    assert found.password not in str(row) + repr(found)


@pytest.mark.asyncio
async def test_a_chosen_password_is_kept(registry: DeviceRegistry) -> None:
    made = await registry.add_with_password("pump-1", "my-own-password", ["pub:alarms/#"])
    assert made["password"] == "my-own-password"
    found = await registry.find("pump-1")
    assert found is not None
    assert verify_password("my-own-password", found.password)


@pytest.mark.asyncio
async def test_a_row_tells_people_what_a_device_may_do(registry: DeviceRegistry) -> None:
    await registry.add("d1", "hash", ["sub:{device}/x"])
    assert await registry.row("d1") == {
        "id": "d1",
        "kind": "password",
        "created": "2026-11-24T12:00:00.000Z",
        "revoked": None,
        "topics": ["pub:devices/d1/#", "pub:status/d1", "sub:commands/d1/#", "sub:d1/x"],
    }
    assert await registry.row("d2") is None


@pytest.mark.asyncio
async def test_all_devices_in_order(registry: DeviceRegistry, store: MemoryKeyValue) -> None:
    for device in ("b", "a", "c"):
        await registry.add(device, "hash")
    await store.set("other/x", b"not a device")
    assert [row["id"] for row in await registry.rows()] == ["a", "b", "c"]
    assert [device.id for device in await registry.all()] == ["a", "b", "c"]


@pytest.mark.asyncio
@pytest.mark.parametrize("device", ["", "a/b", "a b", "a.b", "#"])
async def test_a_bad_id_is_never_stored(registry: DeviceRegistry, store: MemoryKeyValue, device: str) -> None:
    with pytest.raises(RejectedError, match="device id"):
        await registry.add(device, "hash")
    with pytest.raises(RejectedError, match="device id"):
        await registry.add_with_password(device, None)
    assert store.values == {}


@pytest.mark.asyncio
async def test_a_name_that_cannot_be_an_id_does_not_reach_the_store(registry: DeviceRegistry, store: MemoryKeyValue) -> None:
    for name in ("x" * 60_000, "a b", "../a", "\0"):
        assert await registry.find(name) is None
        with pytest.raises(RejectedError, match="no device"):
            await registry.revoke(name)
    assert store.reads == 0


@pytest.mark.asyncio
async def test_bad_topics_and_passwords_leave_nothing_behind(registry: DeviceRegistry, store: MemoryKeyValue) -> None:
    with pytest.raises(RejectedError, match="pub: or sub:"):
        await registry.add_with_password("d1", None, ["events/#"])
    with pytest.raises(RejectedError, match="8 to 256"):
        await registry.add_with_password("d1", "short")
    assert store.values == {}


@pytest.mark.asyncio
async def test_a_device_is_added_once_also_by_two_at_the_same_time(registry: DeviceRegistry) -> None:
    made = await asyncio.gather(*[registry.add_with_password("d1", None) for _ in range(3)], return_exceptions=True)
    good = [one for one in made if isinstance(one, dict)]
    assert len(good) == 1
    assert all(isinstance(one, RejectedError) for one in made if not isinstance(one, dict))
    found = await registry.find("d1")
    assert found is not None
    assert verify_password(good[0]["password"], found.password)
    with pytest.raises(RejectedError, match="already"):
        await registry.add("d1", "hash")


@pytest.mark.asyncio
async def test_revoking_marks_it_with_the_time_and_twice_is_once(registry: DeviceRegistry, clock: ManualClock) -> None:
    await registry.add("d1", "hash")
    clock.advance(5 * SECOND)
    await registry.revoke("d1")
    clock.advance(5 * SECOND)
    await registry.revoke("d1")
    found = await registry.find("d1")
    assert found is not None
    assert found.revoked == NOON + 5 * SECOND
    assert (await registry.rows())[0]["revoked"] == "2026-11-24T12:00:05.000Z"
    with pytest.raises(RejectedError, match="already"):
        await registry.add("d1", "hash")


@pytest.mark.asyncio
async def test_a_removed_device_is_gone_and_may_come_back(registry: DeviceRegistry) -> None:
    await registry.add("d1", "hash")
    await registry.remove("d1")
    assert await registry.find("d1") is None
    await registry.add("d1", "hash2")
    assert await registry.row("d1") is not None


@pytest.mark.asyncio
async def test_an_unknown_device_is_named_with_the_nearest_known(registry: DeviceRegistry) -> None:
    await registry.add("pump-1", "hash")
    with pytest.raises(RejectedError, match="did you mean 'pump-1'"):
        await registry.revoke("pump1")
    with pytest.raises(RejectedError, match="no device 'pomp'"):
        await registry.remove("pomp")


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("record", "why"),
    [
        (b"rubbish", "cannot be read"),
        (b"{}", "cannot be read"),
        (b'{"format":1,"id":"d1"}', "cannot be read"),
        (b'{"format":1,"id":"d2","created":1}', "is of 'd2'"),
        (b'{"format":2,"id":"d1","created":1}', "later version"),
    ],
)
async def test_a_record_that_cannot_be_read_is_named_and_can_be_removed(
    registry: DeviceRegistry, store: MemoryKeyValue, record: bytes, why: str
) -> None:
    await store.set("device/d1", record)
    for reading in (registry.find("d1"), registry.rows(), registry.revoke("d1")):
        with pytest.raises(CorruptError, match=why):
            await reading
    assert await store.get("device/d1") == record
    await registry.remove("d1")
    assert await registry.find("d1") is None


@pytest.mark.asyncio
async def test_fields_of_tomorrow_are_no_hindrance(registry: DeviceRegistry, store: MemoryKeyValue) -> None:
    await registry.add("d1", "hash")
    record = json.loads(store.values["device/d1"]) | {"comment": "by the gate"}
    await store.set("device/d1", json.dumps(record).encode())
    assert await registry.row("d1") is not None
