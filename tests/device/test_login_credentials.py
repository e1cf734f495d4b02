"""What a device proves itself with: tokens, certificates, and what ends them; and that each refusal costs the same."""

import pytest

from skerry.broker import ConnectRequest, Grant
from skerry.core.clock import SECOND, ManualClock
from skerry.device import BrokerLogin, DeviceAuthenticator, DeviceRegistry, for_device
from skerry.trust import SigningKey
from tests.device.logins import PASSWORD, asks, certificate, reason

pytestmark = pytest.mark.usefixtures("cheap_hashes")


async def keyed(auth: DeviceAuthenticator, device: str = "d1") -> str:
    """A device with a key; its token."""
    await auth.add_trusted_device(device, SigningKey.new().public)
    found = await auth.devices.find(device)
    assert found is not None
    return await auth.issue_token(found)


@pytest.mark.asyncio
async def test_a_token_lets_its_device_in_until_it_expires(
    login: BrokerLogin, auth: DeviceAuthenticator, clock: ManualClock, hashes: list[str]
) -> None:
    token = await keyed(auth)
    other = await keyed(auth, "d2")
    decision = await login.decide(asks("d1", token))
    assert isinstance(decision, Grant)
    assert (decision.name, decision.expires) == ("d1", (clock.now() // SECOND + 3600) * SECOND)
    assert decision.publish == for_device("d1").publish
    assert hashes == [], "what is right costs no hash"
    assert reason(await login.decide(asks("d1", other))) == "bad-token"
    assert reason(await login.decide(asks("d2", token))) == "bad-token"
    assert reason(await login.decide(asks("nobody", token))) == "unknown"


@pytest.mark.asyncio
async def test_rotate_revoke_and_remove_end_what_a_device_had(login: BrokerLogin, auth: DeviceAuthenticator) -> None:
    token = await keyed(auth)
    assert reason(await login.decide(asks("d1", token))) == "granted"
    made = await auth.devices.rotate_with("d1", password=PASSWORD)
    assert made["kind"] == "password"
    assert reason(await login.decide(asks("d1", token))) == "bad-password"
    assert reason(await login.decide(asks("d1"))) == "granted"
    await auth.devices.rotate_with("d1")
    assert reason(await login.decide(asks("d1"))) == "bad-password"
    token = await keyed(auth, "d2")
    await auth.revoke("d2")
    assert reason(await login.decide(asks("d2", token))) == "revoked"
    await auth.remove("d2")
    assert reason(await login.decide(asks("d2", token))) == "unknown"


PEMS = {"mine": certificate("d1"), "another": certificate("d1"), "named": certificate("other", "d2"), "rubbish": "rubbish"}


def shows(pem: str, username: str = "", *, verified: bool = True) -> ConnectRequest:
    return asks(username, "", certificates=(PEMS[pem],), verified=verified)


@pytest.mark.asyncio
async def test_a_device_is_found_by_its_certificate(login: BrokerLogin, registry: DeviceRegistry) -> None:
    await registry.add_with("d1", certificate=PEMS["mine"])
    for username in ("", "d1"):
        decision = await login.decide(shows("mine", username))
        assert isinstance(decision, Grant)
        assert (decision.name, decision.expires) == ("d1", None)
        assert reason(await login.decide(shows("mine", username, verified=False))) == "granted", "the fingerprint says it all"
    assert reason(await login.decide(shows("another", "d1"))) == "bad-certificate"
    assert reason(await login.decide(shows("another"))) == "unknown"
    assert reason(await login.decide(shows("rubbish"))) == "unknown"
    assert reason(await login.decide(asks("d1", ""))) == "bad-certificate"
    await registry.revoke("d1")
    assert reason(await login.decide(shows("mine"))) == "revoked"


@pytest.mark.asyncio
async def test_the_site_s_ca_may_speak_for_a_device(login: BrokerLogin, registry: DeviceRegistry) -> None:
    await registry.add_with("d1", certificate="ca")
    await registry.add_with("d2", certificate="ca")
    for pem, device in (("mine", "d1"), ("another", "d1"), ("named", "d2")):
        for username in ("", device):
            decision = await login.decide(shows(pem, username))
            assert isinstance(decision, Grant)
            assert decision.name == device
            assert reason(await login.decide(shows(pem, username, verified=False))) in {"unknown", "bad-certificate"}
    assert reason(await login.decide(shows("named", "d1"))) == "bad-certificate"


@pytest.mark.asyncio
async def test_a_certificate_is_no_way_round_a_password(login: BrokerLogin, registry: DeviceRegistry) -> None:
    await registry.add_with("d1", password=PASSWORD)
    assert reason(await login.decide(shows("mine", "d1"))) == "bad-password"
    assert reason(await login.decide(shows("mine"))) == "unknown"
    assert reason(await login.decide(asks("d1", certificates=(PEMS["another"],), verified=True))) == "granted"


@pytest.mark.asyncio
async def test_every_refused_credential_costs_one_hash(
    login: BrokerLogin, auth: DeviceAuthenticator, clock: ManualClock, hashes: list[str]
) -> None:
    registry = auth.devices
    await registry.add_with("d1", password=PASSWORD)
    await registry.add_with("keyed", key=SigningKey.new().public_pem())
    await registry.add_with("certified", certificate="ca")
    await registry.add_with("revoked", key=SigningKey.new().public_pem())
    keyed, revoked = await registry.find("keyed"), await registry.find("revoked")
    assert keyed
    assert revoked
    tokens = {"old": await auth.issue_token(keyed), "revoked": await auth.issue_token(revoked)}
    await registry.revoke("revoked")
    cases = {
        "bad-password": asks("d1", "wrong-horse"), "unknown": asks("nobody", "wrong-horse"), "bad-token": asks("keyed", "st1.x"),
        "bad-certificate": asks("certified", ""), "revoked": asks("revoked", tokens["revoked"]),
    }  # fmt: skip
    for expected, request in cases.items():
        hashes.clear()
        assert (reason(await login.decide(request)), len(hashes)) == (expected, 1)
    clock.advance(3600 * SECOND)
    hashes.clear()
    assert reason(await login.decide(asks("keyed", tokens["old"]))) == "token-expired"
    assert len(hashes) == 1
