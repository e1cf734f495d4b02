"""The registry: what is added is found, what is revoked stays refused, what is damaged is named; over the key-value port."""

import asyncio
import base64
import json
from typing import Any

import pytest

from skerry.core.clock import SECOND, ManualClock
from skerry.core.errors import CorruptError, RejectedError
from skerry.device import DeviceRegistry
from skerry.device.registry import Credential
from skerry.trust import SigningKey, passwords, verify_password
from tests.contracts.key_value import KeyValueContract, MemoryKeyValue

HASHED = Credential(password="hash")
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
    await registry.add("pump-1", HASHED, ["sub:events/#"])
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
    await registry.add("d1", HASHED, ["sub:{device}/x"])
    assert await registry.row("d1") == {
        "id": "d1",
        "kind": "password",
        "created": "2026-11-24T12:00:00.000Z",
        "rotated": None,
        "revoked": None,
        "topics": ["pub:devices/d1/#", "pub:status/d1", "sub:commands/d1/#", "sub:d1/x"],
    }
    assert await registry.row("d2") is None


@pytest.mark.asyncio
async def test_all_devices_in_order(registry: DeviceRegistry, store: MemoryKeyValue) -> None:
    for device in ("b", "a", "c"):
        await registry.add(device, HASHED)
    await store.set("other/x", b"not a device")
    assert [row["id"] for row in await registry.rows()] == ["a", "b", "c"]
    assert [device.id for device in await registry.all()] == ["a", "b", "c"]


@pytest.mark.asyncio
@pytest.mark.parametrize("device", ["", "a/b", "a b", "a.b", "#"])
async def test_a_bad_id_is_never_stored(registry: DeviceRegistry, store: MemoryKeyValue, device: str) -> None:
    with pytest.raises(RejectedError, match="device id"):
        await registry.add(device, HASHED)
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
        await registry.add("d1", HASHED)


@pytest.mark.asyncio
async def test_revoking_marks_it_with_the_time_and_twice_is_once(registry: DeviceRegistry, clock: ManualClock) -> None:
    await registry.add("d1", HASHED)
    clock.advance(5 * SECOND)
    await registry.revoke("d1")
    clock.advance(5 * SECOND)
    await registry.revoke("d1")
    found = await registry.find("d1")
    assert found is not None
    assert found.revoked == NOON + 5 * SECOND
    assert (await registry.rows())[0]["revoked"] == "2026-11-24T12:00:05.000Z"
    with pytest.raises(RejectedError, match="already"):
        await registry.add("d1", HASHED)


@pytest.mark.asyncio
async def test_a_removed_device_is_gone_and_may_come_back(registry: DeviceRegistry) -> None:
    await registry.add("d1", HASHED)
    await registry.remove("d1")
    assert await registry.find("d1") is None
    await registry.add("d1", Credential(password="hash2"))
    assert await registry.row("d1") is not None


@pytest.mark.asyncio
async def test_an_unknown_device_is_named_with_the_nearest_known(registry: DeviceRegistry) -> None:
    await registry.add("pump-1", HASHED)
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
    await registry.add("d1", HASHED)
    record = json.loads(store.values["device/d1"]) | {"comment": "by the gate"}
    await store.set("device/d1", json.dumps(record).encode())
    assert await registry.row("d1") is not None


@pytest.mark.asyncio
async def test_a_record_of_the_first_version_is_still_read(registry: DeviceRegistry, store: MemoryKeyValue) -> None:
    await store.set("device/d1", b'{"id":"d1","format":1,"created":1,"password":"hash","topics":["sub:x"],"revoked":5}')
    found = await registry.find("d1")
    assert found is not None
    assert (found.kind, found.password, found.topics, found.revoked, found.rotated) == ("password", "hash", ("sub:x",), 5, 0)


PAIR = SigningKey.new()
FINGERPRINT = "sha256:" + "0a" * 32
OTHER = "sha256:" + "0b" * 32


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("given", "kind", "shown"),
    [
        ({}, "password", {}),
        ({"password": "my-own-password"}, "password", {}),
        ({"key": PAIR.public_pem()}, "key", {"key": base64.b64encode(PAIR.public).decode()}),
        ({"certificate": FINGERPRINT}, "certificate", {"certificate": FINGERPRINT}),
        ({"certificate": " ca\n"}, "certificate", {"certificate": "ca"}),
    ],
)
async def test_a_device_has_one_kind_of_credential(
    registry: DeviceRegistry, given: dict[str, Any], kind: str, shown: dict[str, str]
) -> None:
    made = await registry.add_with("d1", ["sub:x"], **given)
    row = await registry.row("d1")
    assert row is not None
    assert row["kind"] == kind
    assert {name: row[name] for name in ("key", "certificate") if name in row} == shown
    assert row == {name: value for name, value in made.items() if name != "password"}
    assert ("password" in made) == (kind == "password")
    assert repr(await registry.find("d1")) == "Device('d1')"


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("given", "why"),
    [
        ({"password": "some-password", "key": PAIR.public_pem()}, "one of password, key and certificate"),
        ({"key": PAIR.public_pem(), "certificate": "ca"}, "one of password, key and certificate"),
        ({"key": PAIR.pem()}, "private key"),
        ({"key": "rubbish"}, "no public key"),
        ({"certificate": "rubbish"}, "no certificate"),
        ({"certificate": "sha256:0A"}, "no certificate"),
        ({"password": ""}, "will not do"),
    ],
)
async def test_a_credential_that_will_not_do_leaves_nothing_behind(
    registry: DeviceRegistry, store: MemoryKeyValue, given: dict[str, Any], why: str
) -> None:
    with pytest.raises(RejectedError, match=why):
        await registry.add_with("d1", **given)
    assert store.values == {}
    await registry.add("d1", HASHED)
    with pytest.raises(RejectedError, match=why):
        await registry.rotate_with("d1", **given)
    assert (await registry.find("d1")) == (await DeviceRegistry(store, ManualClock()).find("d1"))
    found = await registry.find("d1")
    assert found is not None
    assert (found.password, found.rotated) == ("hash", 0)


@pytest.mark.asyncio
async def test_another_credential_takes_the_place_of_the_first(registry: DeviceRegistry, clock: ManualClock) -> None:
    await registry.add_with("d1", ["sub:x"], password="some-password")
    clock.advance(SECOND)
    made = await registry.rotate_with("d1", key=PAIR.public_pem())
    assert (made["kind"], made["rotated"], made["created"]) == ("key", "2026-11-24T12:00:01.000Z", "2026-11-24T12:00:00.000Z")
    assert made["topics"][-1] == "sub:x"
    found = await registry.find("d1")
    assert found is not None
    assert (found.password, found.public_key) == ("", PAIR.public)
    with pytest.raises(RejectedError, match="logs in with a key; give it a new key"):
        await registry.rotate_with("d1")
    made = await registry.rotate_with("d1", password="some-password")
    again = await registry.rotate_with("d1")
    assert (made["password"], again["password"] != "some-password") == ("some-password", True)
    found = await registry.find("d1")
    assert found is not None
    assert verify_password(again["password"], found.password)


@pytest.mark.asyncio
async def test_a_revoked_or_unknown_device_gets_no_other_credential(registry: DeviceRegistry) -> None:
    await registry.add("d1", HASHED)
    await registry.revoke("d1")
    with pytest.raises(RejectedError, match="is revoked; remove it and add it again"):
        await registry.rotate_with("d1", key=PAIR.public_pem())
    with pytest.raises(RejectedError, match="did you mean 'd1'"):
        await registry.rotate_with("d11", key=PAIR.public_pem())


@pytest.mark.asyncio
async def test_a_certificate_leads_to_one_device(registry: DeviceRegistry, store: MemoryKeyValue) -> None:
    await registry.add_with("d1", certificate=FINGERPRINT)
    await registry.add_with("d2", certificate="ca")
    await registry.add_with("d3", password="some-password")

    async def found(fingerprint: str, *names: str) -> str | None:
        device = await registry.find_by_certificate(fingerprint, names)
        return device.id if device else None

    assert await found(FINGERPRINT) == "d1"
    assert await found(FINGERPRINT, "d2") == "d1"
    assert await found(OTHER) is None
    assert await found(OTHER, "d2") == "d2"
    assert await found(OTHER, "nobody", "d1", "d3") is None, "only who said ca is found by a name"
    assert await found(OTHER, *[f"n{number}" for number in range(8)], "d2") is None
    with pytest.raises(RejectedError, match="device 'd1' has this certificate"):
        await registry.add_with("d4", certificate=FINGERPRINT)
    assert await registry.find("d4") is None
    await registry.rotate_with("d1", certificate=OTHER)
    assert (await found(FINGERPRINT), await found(OTHER)) == (None, "d1")
    await registry.add_with("d4", certificate=FINGERPRINT)
    assert await found(FINGERPRINT) == "d4"
    await registry.remove("d4")
    await registry.rotate_with("d1", password="some-password")
    assert (await found(FINGERPRINT), await found(OTHER)) == (None, None)
    assert [key for key in store.values if key.startswith("certificate/")] == []


@pytest.mark.asyncio
async def test_a_way_that_a_crash_left_over_leads_nowhere(registry: DeviceRegistry, store: MemoryKeyValue) -> None:
    await registry.add_with("d1", certificate=OTHER)
    await store.set("certificate/" + FINGERPRINT, b"d1")
    assert await registry.find_by_certificate(FINGERPRINT) is None
    await store.set("certificate/" + FINGERPRINT, b"gone")
    assert await registry.find_by_certificate(FINGERPRINT) is None
    await registry.add_with("d2", certificate=FINGERPRINT)
    found = await registry.find_by_certificate(FINGERPRINT)
    assert found is not None
    assert found.id == "d2"
