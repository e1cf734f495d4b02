"""Who a device is: one signature lets one device in once, whatever happens between; and what tokens are good for."""

import asyncio
import base64
import stat
from pathlib import Path
from typing import Any

import msgspec
import pytest

from skerry import DeviceAuthenticator
from skerry.core.clock import SECOND, ManualClock
from skerry.core.errors import ConfigError, CorruptError, RejectedError, UnavailableError
from skerry.device import authenticator as module
from skerry.device.challenge import signed_message
from skerry.trust import SigningKey
from tests.contracts.key_value import MemoryKeyValue
from tests.trust import curve

NOON = 1_795_521_600 * SECOND
TTL_S = 30


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(NOON)


async def trusted(auth: DeviceAuthenticator, device: str = "pump-1") -> SigningKey:
    key = SigningKey.new()
    await auth.add_trusted_device(device, key.public)
    return key


async def answered(auth: DeviceAuthenticator, key: SigningKey, device: str = "pump-1") -> tuple[bytes, bytes]:
    challenge = await auth.generate_challenge(device)
    return challenge, key.sign(signed_message(device, challenge))


@pytest.mark.asyncio
async def test_a_device_that_signs_its_challenge_is_who_it_says_once() -> None:
    auth = DeviceAuthenticator()
    key = SigningKey.new()
    await auth.add_trusted_device("pump-1", key.public_pem())
    challenge = await auth.generate_challenge("pump-1")
    assert len(challenge) == 32
    response = key.sign(b"skerry-login-v1\0pump-1\0" + challenge)
    assert await auth.verify_response("pump-1", challenge, response)
    assert not await auth.verify_response("pump-1", challenge, response)


@pytest.mark.asyncio
async def test_text_is_base64_in_its_one_spelling(auth: DeviceAuthenticator) -> None:
    key = await trusted(auth)
    for spoilt in ("none", "newline", "unpadded", "urlsafe", "hex", "loose"):
        challenge, response = await answered(auth, key)
        text, signature = base64.b64encode(challenge).decode(), base64.b64encode(response).decode()
        given = {
            "none": signature,
            "newline": signature + "\n",
            "unpadded": signature.rstrip("="),
            "urlsafe": signature.replace("+", "-").replace("/", "_") + " ",
            "hex": response.hex(),
            "loose": signature[:-3] + chr(ord(signature[-3]) + 1) + "==",
        }[spoilt]
        assert await auth.verify_response("pump-1", text, given) == (spoilt == "none"), spoilt


@pytest.mark.asyncio
async def test_each_refusal_has_its_reason(auth: DeviceAuthenticator, clock: ManualClock) -> None:
    key = await trusted(auth)
    await trusted(auth, "other")
    await auth.devices.add_with("with-password", password="some-password")
    challenge, response = await answered(auth, key)

    async def reason(device: str, value: bytes | str = challenge, signature: bytes | str = response) -> str:
        return (await auth.judge(device, value, signature)).reason

    assert await reason("nobody") == "unknown"
    assert await reason("pump-1") == "bad-challenge", "it was spent by the attempt as nobody"
    assert await reason("a b/c" * 1000) == "unknown"
    challenge, response = await answered(auth, key)
    assert await reason("other", challenge, response) == "bad-challenge"
    assert await reason("pump-1", challenge, response) == "bad-challenge"
    assert await reason("with-password", *await answered(auth, key, "with-password")) == "no-key"
    challenge, _ = await answered(auth, key)
    assert await reason("pump-1", challenge, bytes(64)) == "bad-signature"
    challenge, response = await answered(auth, key)
    clock.advance(TTL_S * SECOND)
    assert await reason("pump-1", challenge, response) == "bad-challenge"
    assert await reason("pump-1", "rubbish", "rubbish") == "bad-challenge"
    challenge, response = await answered(auth, key)
    await auth.devices.revoke("pump-1")
    assert await reason("pump-1", challenge, response) == "revoked"


@pytest.mark.asyncio
async def test_a_clock_that_is_set_does_not_make_a_challenge_live_longer(auth: DeviceAuthenticator, clock: ManualClock) -> None:
    key = await trusted(auth)
    challenge, response = await answered(auth, key)
    clock.advance(TTL_S * SECOND)
    clock.set(NOON - 1000 * SECOND)
    assert not await auth.verify_response("pump-1", challenge, response)
    challenge, response = await answered(auth, key)
    clock.set(NOON + 10**9 * SECOND)
    assert await auth.verify_response("pump-1", challenge, response)


@pytest.mark.asyncio
async def test_of_two_at_the_same_moment_one_gets_in(auth: DeviceAuthenticator) -> None:
    key = await trusted(auth)
    challenge, response = await answered(auth, key)
    answers = await asyncio.gather(*[auth.verify_response("pump-1", challenge, response) for _ in range(20)])
    assert answers.count(True) == 1


@pytest.mark.asyncio
async def test_what_the_rules_of_the_signature_forbid_is_refused(auth: DeviceAuthenticator) -> None:
    """Cases in the manner of Wycheproof, made from the rules of RFC 8032, each with a challenge of its own."""
    key = await trusted(auth)

    async def gets_in(change: Any) -> bool:
        challenge, response = await answered(auth, key)
        return await auth.verify_response("pump-1", challenge, change(response))

    def with_s(more: int) -> Any:
        return lambda found: found[:32] + (int.from_bytes(found[32:], "little") + more).to_bytes(32, "little")

    assert await gets_in(lambda found: found)
    for more in range(1, 8):
        assert not await gets_in(with_s(more * curve.L)), "malleable S"
    assert not await gets_in(with_s(1))
    for size in (0, 1, 32, 63):
        assert not await gets_in(lambda found, size=size: found[:size]), "truncated"
    for more in (b"\0", b"\0" * 32):
        assert not await gets_in(lambda found, more=more: found + more), "over-long"
    for point in curve.small_order():
        assert not await gets_in(lambda found, point=point: curve.encode(point) + found[32:])
        for raw in curve.not_canonical(point):
            assert not await gets_in(lambda found, raw=raw: raw + found[32:]), "R not canonical"
    assert not await gets_in(lambda found: bytes(64))
    assert not await gets_in(lambda found: found[32:] + found[:32])
    assert not await gets_in(lambda found: found[::-1])
    assert not await gets_in(lambda found: b"\xff" * 64)


@pytest.mark.asyncio
async def test_keys_that_are_none_are_never_trusted(auth: DeviceAuthenticator, store: MemoryKeyValue) -> None:
    bad = [curve.encode(point) for point in curve.small_order()]
    bad += [each for point in curve.small_order() for each in curve.not_canonical(point)]
    bad += [(curve.P + 2).to_bytes(32, "little"), b"\xff" * 32, bytes(31), bytes(33), b""]
    for key in bad:
        with pytest.raises(RejectedError):
            await auth.add_trusted_device("pump-1", key)
    with pytest.raises(RejectedError, match="private key"):
        await auth.add_trusted_device("pump-1", SigningKey.new().pem())
    assert store.values == {}
    # one that came into the store by another way signs nothing either
    await trusted(auth)
    record = msgspec.json.decode(store.values["device/pump-1"])
    for point in curve.small_order():
        record["key"] = base64.b64encode(curve.encode(point)).decode()
        store.values["device/pump-1"] = msgspec.json.encode(record)
        challenge = await auth.generate_challenge("pump-1")
        assert not await auth.verify_response("pump-1", challenge, curve.encode(curve.IDENTITY) + bytes(32))


@pytest.mark.asyncio
async def test_a_refusal_costs_one_look_and_one_verification_whatever_the_reason(
    auth: DeviceAuthenticator, store: MemoryKeyValue, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = await trusted(auth)
    count = 0
    verify = module.verify_strict

    def counted(*given: bytes) -> bool:
        nonlocal count
        count += 1
        return verify(*given)

    monkeypatch.setattr(module, "verify_strict", counted)
    challenge, response = await answered(auth, key)
    cases: list[tuple[str, bytes | str, bytes | str]] = [
        ("pump-1", challenge, bytes(64)), ("nobody", challenge, response), ("pump-1", challenge, response), ("nobody", "", ""),
        ("pump-1", "rubbish", "rubbish"), ("pump-1", b"", b""), ("pump-1", challenge, response * 2),
    ]  # fmt: skip
    for number, case in enumerate(cases, 1):
        before = store.reads
        assert not await auth.verify_response(*case)
        assert (count, store.reads - before) == (number, 1), case


@pytest.mark.asyncio
async def test_a_flood_of_names_pushes_out_no_real_challenge(store: MemoryKeyValue, clock: ManualClock) -> None:
    auth = DeviceAuthenticator(store, clock=clock, most=64, most_a_device=4)
    key = await trusted(auth)
    challenge, response = await answered(auth, key)
    for number in range(500):
        assert len(await auth.generate_challenge(f"nobody-{number}", "10.0.0.9")) == 32
        await auth.generate_challenge("x" * 100_000, "10.0.0.9")
        await auth.generate_challenge("pump-1", "10.0.0.9")
    assert len(auth._open) <= 4
    assert len(auth._decoys) <= 4
    assert await auth.verify_response("pump-1", challenge, response)


@pytest.mark.asyncio
async def test_trusted_devices_are_those_that_are_not_revoked(auth: DeviceAuthenticator) -> None:
    for device in ("b", "a", "c"):
        await trusted(auth, device)
    await auth.revoke("b")
    assert [device.id for device in await auth.trusted_devices()] == ["a", "c"]
    await auth.remove("a")
    assert [device.id for device in await auth.trusted_devices()] == ["c"]
    with pytest.raises(RejectedError, match="there is a device 'c' already"):
        await trusted(auth, "c")
    with pytest.raises(RejectedError, match="no device 'a'"):
        await auth.revoke("a")


@pytest.mark.asyncio
async def test_a_directory_keeps_devices_and_key(tmp_path: Path) -> None:
    auth = DeviceAuthenticator(tmp_path / "auth")
    key = await trusted(auth)
    device = (await auth.trusted_devices())[0]
    token = await auth.issue_token(device)
    again = DeviceAuthenticator(str(tmp_path / "auth"))
    assert again.public_key == auth.public_key
    assert await again.verify_response("pump-1", *await answered(again, key))
    assert (await again.check_token(device, token)).device == device
    for file in (tmp_path / "auth").iterdir():
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
        assert not file.name.startswith(".")


@pytest.mark.asyncio
async def test_the_key_file_may_be_elsewhere_and_is_not_shown(tmp_path: Path) -> None:
    auth = DeviceAuthenticator(tmp_path / "auth", key_file=tmp_path / "keys" / "tokens.seed")
    seed = (tmp_path / "keys" / "tokens.seed").read_text().strip()
    assert stat.S_IMODE((tmp_path / "keys" / "tokens.seed").stat().st_mode) == 0o600
    assert seed not in repr(auth) + repr(vars(auth))
    (tmp_path / "keys" / "tokens.seed").write_text("rubbish")
    with pytest.raises(CorruptError, match=r"tokens\.seed"):
        DeviceAuthenticator(key_file=tmp_path / "keys" / "tokens.seed")


def test_times_are_durations() -> None:
    assert (DeviceAuthenticator().challenge_s, DeviceAuthenticator().token_s) == (30.0, 3600)
    assert DeviceAuthenticator(challenge_ttl="500ms").challenge_s == 0.5
    assert DeviceAuthenticator(token_ttl="500ms").token_s == 1, "tokens end at whole seconds"
    with pytest.raises(ConfigError, match="soon"):
        DeviceAuthenticator(challenge_ttl="soon")


@pytest.mark.asyncio
async def test_a_token_is_good_for_its_device_until_its_time(auth: DeviceAuthenticator, clock: ManualClock) -> None:
    await trusted(auth)
    await trusted(auth, "pump-2")
    one, two = await auth.trusted_devices()
    token = await auth.issue_token(one)
    found = await auth.check_token(one, token)
    assert (found.reason, found.device, found.expires) == ("", one, NOON // SECOND + 3600)
    assert (await auth.check_token(two, token)).reason == "bad-token"
    changed = token[:-20] + ("B" if token[-20] == "A" else "A") + token[-19:]
    for wrong in ("", "a password", changed, token + "A"):
        assert (await auth.check_token(one, wrong)).reason == "bad-token"
    clock.advance(3599 * SECOND)
    assert not (await auth.check_token(one, token)).reason
    clock.advance(SECOND)
    assert (await auth.check_token(one, token)).reason == "token-expired"


@pytest.mark.asyncio
async def test_a_storm_of_reconnects_verifies_a_token_once(
    auth: DeviceAuthenticator, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MOST_REMEMBERED", 1)
    count = 0
    verify = module.verify_strict

    def counted(*given: bytes) -> bool:
        nonlocal count
        count += 1
        return verify(*given)

    monkeypatch.setattr(module, "verify_strict", counted)
    await trusted(auth)
    await trusted(auth, "pump-2")
    one, two = await auth.trusted_devices()
    tokens = {device: await auth.issue_token(device) for device in (one, two)}
    for _ in range(5):
        assert not (await auth.check_token(one, tokens[one])).reason
    assert count == 1
    changed = tokens[one][:-20] + ("B" if tokens[one][-20] == "A" else "A") + tokens[one][-19:]
    for device, wrong in ((one, changed), (one, tokens[two]), (two, tokens[one])):
        assert (await auth.check_token(device, wrong)).reason == "bad-token"
    assert not (await auth.check_token(two, tokens[two])).reason
    assert len(auth._right) == 1
    clock.advance(3600 * SECOND)
    assert (await auth.check_token(two, tokens[two])).reason == "token-expired"


@pytest.mark.asyncio
async def test_a_signer_that_is_not_what_its_name_says_is_none(
    auth: DeviceAuthenticator, store: MemoryKeyValue, clock: ManualClock
) -> None:
    other = DeviceAuthenticator(MemoryKeyValue(), clock=clock)
    await trusted(auth)
    device = (await auth.trusted_devices())[0]
    token = await other.issue_token(device)
    await auth.issue_token(device)
    await store.set(f"signer/{other.key_id}", store.values[f"signer/{auth.key_id}"])
    assert (await auth.check_token(device, token)).reason == "bad-token"
    for damaged in (b"rubbish", b'{"format":1,"public":"UABC"}'):
        await store.set(f"signer/{other.key_id}", damaged)
        with pytest.raises(CorruptError, match="public key of a node"):
            await auth.check_token(device, token)


@pytest.mark.asyncio
async def test_a_token_of_a_clock_that_was_wrong_does_not_live_on(auth: DeviceAuthenticator, clock: ManualClock) -> None:
    await trusted(auth)
    device = (await auth.trusted_devices())[0]
    clock.set(NOON + 10**8 * SECOND)
    token = await auth.issue_token(device)
    assert not (await auth.check_token(device, token)).reason
    clock.set(NOON)
    assert (await auth.check_token(device, token)).reason == "token-expired"


@pytest.mark.asyncio
async def test_a_store_that_is_away_is_no_refusal(clock: ManualClock) -> None:
    class Away(MemoryKeyValue):
        async def get(self, key: str) -> bytes | None:
            raise UnavailableError("the store is away")

    auth = DeviceAuthenticator(Away(), clock=clock)
    with pytest.raises(UnavailableError):
        await auth.generate_challenge("pump-1")
    with pytest.raises(UnavailableError):
        await auth.verify_response("pump-1", bytes(32), bytes(64))
