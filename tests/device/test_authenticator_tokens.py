"""Tokens of the authenticator: bound to the device as it is on record, and to the nodes that sign now."""

import pytest

from skerry.core.clock import ManualClock
from skerry.device import DeviceAuthenticator
from skerry.trust import SigningKey
from tests.contracts.key_value import MemoryKeyValue
from tests.device.test_authenticator import NOON, trusted


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(NOON)


@pytest.mark.asyncio
async def test_a_token_ends_with_the_key_it_was_given_for(auth: DeviceAuthenticator) -> None:
    await trusted(auth)
    token = await auth.issue_token((await auth.trusted_devices())[0])
    await auth.devices.rotate_with("pump-1", key=SigningKey.new().public_pem())
    assert (await auth.check_token((await auth.trusted_devices())[0], token)).reason == "bad-token"
    await auth.remove("pump-1")
    await trusted(auth)
    assert (await auth.check_token((await auth.trusted_devices())[0], token)).reason == "bad-token"


@pytest.mark.asyncio
async def test_a_device_added_again_with_its_old_key_needs_another_token(auth: DeviceAuthenticator, clock: ManualClock) -> None:
    key = await trusted(auth)
    token = await auth.issue_token((await auth.trusted_devices())[0])
    await auth.remove("pump-1")
    clock.advance(1)
    await auth.add_trusted_device("pump-1", key.public)
    device = (await auth.trusted_devices())[0]
    assert (await auth.check_token(device, token)).reason == "bad-token"
    assert not (await auth.check_token(device, await auth.issue_token(device))).reason


@pytest.mark.asyncio
async def test_a_key_that_was_replaced_signs_nothing_after_its_last_tokens_have_ended(
    auth: DeviceAuthenticator, store: MemoryKeyValue, clock: ManualClock
) -> None:
    await trusted(auth)
    device = (await auth.trusted_devices())[0]
    copied = DeviceAuthenticator(store, clock=clock)
    await copied.issue_token(device)
    # from now on whoever has the copy signs, and cannot write into the store
    thief = MemoryKeyValue()
    copied._store = thief
    for minutes in (5, 5, 19):
        clock.advance(minutes * 60_000_000)
        await auth.issue_token(device)
        assert not (await auth.check_token(device, await copied.issue_token(device))).reason
    for _ in range(3):
        clock.advance(25 * 60_000_000)
        assert not (await auth.check_token(device, await auth.issue_token(device))).reason
    assert (await auth.check_token(device, await copied.issue_token(device))).reason == "bad-token"
    assert thief.values


@pytest.mark.asyncio
async def test_every_node_of_a_store_takes_the_tokens_of_all(
    auth: DeviceAuthenticator, store: MemoryKeyValue, clock: ManualClock
) -> None:
    other = DeviceAuthenticator(store, clock=clock)
    stranger = DeviceAuthenticator(MemoryKeyValue(), clock=clock)
    await trusted(auth)
    device = (await auth.trusted_devices())[0]
    assert not (await other.check_token(device, await auth.issue_token(device))).reason
    assert not (await auth.check_token(device, await other.issue_token(device))).reason
    assert (await auth.check_token(device, await stranger.issue_token(device))).reason == "bad-token"
    assert sorted(store.values) == sorted(["device/pump-1", f"signer/{auth.key_id}", f"signer/{other.key_id}"])
