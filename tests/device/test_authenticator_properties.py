"""No sequence of generate, verify, expire, revoke and restart lets one signature in twice, or one device in as another."""

import asyncio
from collections.abc import Coroutine
from typing import Any, NamedTuple, TypeVar

from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, invariant, rule

from skerry import DeviceAuthenticator
from skerry.core.clock import SECOND, ManualClock
from skerry.device.challenge import BYTES, signed_message
from skerry.trust import SigningKey
from tests.contracts.key_value import MemoryKeyValue

T = TypeVar("T")
NOON = 1_795_521_600 * SECOND
TTL_S = 30
DEVICES = ("a", "b", "c")
NAMES = st.sampled_from((*DEVICES, "nobody"))


class Signed(NamedTuple):
    """A challenge that was signed, as whom, and with which key."""

    challenge: bytes
    signature: bytes
    device: str
    public: bytes


class LogIns(RuleBasedStateMachine):
    """One node's authenticator over its store, and devices that are honest or not."""

    challenges = Bundle("challenges")
    signatures = Bundle("signatures")

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.clock = ManualClock(NOON)
        self.store = MemoryKeyValue()
        self.pairs = {device: SigningKey.new() for device in DEVICES}
        self.trusted: set[str] = set()
        self.open: dict[bytes, tuple[str, float]] = {}
        self.issued: dict[bytes, str] = {}
        self.let_in: set[Signed] = set()
        self.restart()
        for device in DEVICES[:2]:
            self.add(device)

    def teardown(self) -> None:
        self.loop.close()

    def run(self, call: Coroutine[Any, Any, T]) -> T:
        return self.loop.run_until_complete(call)

    @rule()
    def restart(self) -> None:
        self.auth = DeviceAuthenticator(self.store, clock=self.clock, most=8, most_a_device=3)
        self.open.clear()

    @rule(device=st.sampled_from(DEVICES))
    def add(self, device: str) -> None:
        if self.run(self.auth.devices.find(device)) is None:
            self.run(self.auth.add_trusted_device(device, self.pairs[device].public))
            self.trusted.add(device)

    @rule(device=st.sampled_from(DEVICES), how=st.sampled_from(["revoke", "remove"]))
    def distrust(self, device: str, how: str) -> None:
        if self.run(self.auth.devices.find(device)) is not None:
            self.run(self.auth.revoke(device) if how == "revoke" else self.auth.remove(device))
            self.trusted.discard(device)

    @rule(device=st.sampled_from(DEVICES))
    def rotate(self, device: str) -> None:
        if device in self.trusted:
            self.pairs[device] = SigningKey.new()
            self.run(self.auth.devices.rotate_with(device, key=self.pairs[device].public_pem()))

    @rule(seconds=st.sampled_from([0.0, 1.0, 15.0, 30.0]))
    def wait(self, seconds: float) -> None:
        self.clock.advance(round(seconds * SECOND))

    @rule(target=challenges, device=NAMES, source=st.sampled_from(["x", "y"]))
    def generate(self, device: str, source: str) -> bytes:
        value = self.run(self.auth.generate_challenge(device, source))
        assert len(value) == BYTES
        assert value not in self.open
        self.open[value] = device, self.clock.monotonic() + TTL_S
        self.issued[value] = device
        return value

    @rule(target=signatures, challenge=challenges)
    def sign(self, challenge: bytes) -> Signed:
        """As the device that it was issued for does."""
        device = self.issued[challenge]
        return self.signed(challenge, device if device in DEVICES else "a", device)

    @rule(target=signatures, challenge=challenges, signer=st.sampled_from(DEVICES), device=NAMES)
    def sign_for_another(self, challenge: bytes, signer: str, device: str) -> Signed:
        return self.signed(challenge, signer, device)

    def signed(self, challenge: bytes, signer: str, device: str) -> Signed:
        pair = self.pairs[signer]
        return Signed(challenge, pair.sign(signed_message(device, challenge)), device, pair.public)

    @rule(target=signatures, device=st.sampled_from(DEVICES), seconds=st.sampled_from([0, TTL_S - 1, TTL_S]))
    def log_in(self, device: str, seconds: int) -> Signed:
        """All of it in one go: an honest device gets in, if it is trusted and in time. What it sent may be seen and used again."""
        seen = self.signed(self.generate(device, "x"), device, device)
        self.clock.advance(seconds * SECOND)
        assert self.attempt(seen, device, False) == (device in self.trusted and seconds < TTL_S)
        return seen

    @rule(given=signatures)
    def verify(self, given: Signed) -> None:
        self.attempt(given, given.device, False)

    @rule(given=signatures, device=NAMES, spoil=st.booleans())
    def verify_otherwise(self, given: Signed, device: str, spoil: bool) -> None:
        self.attempt(given, device, spoil)

    def attempt(self, given: Signed, device: str, spoil: bool) -> bool:
        signature = bytes([given.signature[0] ^ 1]) + given.signature[1:] if spoil else given.signature
        answer = self.run(self.auth.verify_response(device, given.challenge, signature))
        issued_for, expires = self.open.pop(given.challenge, ("", 0.0))
        if answer:
            assert not spoil
            assert device == given.device == issued_for, "one device in as another, or one challenge twice"
            assert device in self.trusted
            assert given.public == self.pairs[device].public, "a key that was replaced"
            assert self.clock.monotonic() < expires
            assert given not in self.let_in, "one signature in twice"
            self.let_in.add(given)
        return answer

    @invariant()
    def bounds_hold(self) -> None:
        assert len(self.auth._open) <= 8
        assert len(self.auth._decoys) <= 8


TestLogIns = LogIns.TestCase
TestLogIns.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)


ANYTHING = st.one_of(st.text(max_size=100), st.binary(max_size=100), st.sampled_from([b"", bytes(32), bytes(64), "A" * 88]))


@settings(max_examples=100, deadline=None)
@given(st.one_of(NAMES, st.text(max_size=80)), ANYTHING, ANYTHING, st.text(max_size=150))
def test_rubbish_is_refused_and_nothing_else_happens(
    device: str, challenge: bytes | str, response: bytes | str, token: str
) -> None:  # fmt: skip
    async def tried() -> None:
        auth = DeviceAuthenticator()
        known = await auth.add_trusted_device("a", SigningKey.new().public)
        assert len(await auth.generate_challenge(device, token)) == BYTES
        assert not await auth.verify_response(device, challenge, response)
        assert (await auth.check_token(known, token)).reason == "bad-token"

    asyncio.run(tried())
