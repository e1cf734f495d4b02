"""The log-in by challenge as a service: what it answers, what it counts and writes down, and how it holds up who fails."""

import asyncio
import base64

import pytest

from skerry.core.clock import ManualClock, SystemClock
from skerry.device import Attempts, DeviceAuthenticator, Holding, TokenLogin
from skerry.device import token_login as module
from skerry.device.challenge import signed_message
from skerry.trust import SigningKey
from tests.device.logins import Notes


class Always(Attempts):
    """Each failure is answered after so many seconds."""

    def __init__(self, seconds: float) -> None:
        super().__init__()
        self.seconds = seconds

    def fail(self, source: str, device: str, now: float) -> float:
        return self.seconds


KEY = SigningKey.new()


@pytest.fixture
def notes() -> Notes:
    return Notes()


@pytest.fixture
def auth() -> DeviceAuthenticator:
    return DeviceAuthenticator()


@pytest.fixture
def login(auth: DeviceAuthenticator, notes: Notes) -> TokenLogin:
    clock = SystemClock()
    return TokenLogin(auth, clock, Holding(clock, Attempts()), notes)


async def signed(login: TokenLogin, device: str = "pump-1", key: SigningKey = KEY) -> tuple[str, str]:
    asked = await login.challenge(device, "10.0.0.7")
    signature = key.sign(signed_message(device, base64.b64decode(asked.challenge)))
    return asked.challenge, base64.b64encode(signature).decode()


@pytest.mark.asyncio
async def test_a_signed_challenge_brings_a_token(login: TokenLogin, auth: DeviceAuthenticator, notes: Notes) -> None:
    device = await auth.add_trusted_device("pump-1", KEY.public)
    asked = await login.challenge("pump-1", "10.0.0.7")
    assert (len(base64.b64decode(asked.challenge)), asked.expires_in) == (32, 30)
    assert isinstance(asked.expires_in, int)
    answer = await login.token("pump-1", *await signed(login), "10.0.0.7")
    assert answer is not None
    assert answer.expires_in == 3600
    assert (await auth.check_token(device, answer.token)).device == device
    assert notes.entries == [{"event": "log-in by key", "by": "pump-1", "address": "10.0.0.7", "reason": ""}]
    assert not login.refused


@pytest.mark.asyncio
async def test_each_refusal_is_counted_and_written_down_with_its_reason(
    login: TokenLogin, auth: DeviceAuthenticator, notes: Notes
) -> None:
    await auth.add_trusted_device("pump-1", KEY.public)
    challenge, signature = await signed(login)
    assert await login.token("nobody" * 100, challenge, signature, "10.0.0.7") is None
    assert await login.token("pump-1", challenge, signature, "10.0.0.7") is None
    assert await login.token("pump-1", *await signed(login, key=SigningKey.new()), "10.0.0.8") is None
    assert dict(login.refused) == {"unknown": 1, "bad-challenge": 1, "bad-signature": 1}
    assert [(entry["event"], entry["by"], entry["address"], entry["reason"]) for entry in notes.entries] == [
        ("log-in refused", ("nobody" * 100)[:64], "10.0.0.7", "unknown"),
        ("log-in refused", "pump-1", "10.0.0.7", "bad-challenge"),
        ("log-in refused", "pump-1", "10.0.0.8", "bad-signature"),
    ]
    text = repr(notes.entries)
    assert challenge not in text
    assert signature not in text


@pytest.mark.asyncio
async def test_a_time_to_live_that_is_no_whole_number_is_told_as_it_is() -> None:
    clock = SystemClock()
    login = TokenLogin(DeviceAuthenticator(challenge_ttl="1500ms"), clock, Holding(clock, Attempts()))
    assert (await login.challenge("pump-1", "")).expires_in == 1.5


@pytest.mark.asyncio
async def test_how_long_was_looked_is_not_to_be_seen(login: TokenLogin, auth: DeviceAuthenticator) -> None:
    await auth.add_trusted_device("pump-1", KEY.public)
    clock = SystemClock()
    for device in ("pump-1", "nobody"):
        began = clock.monotonic()
        await login.challenge(device, "10.0.0.7")
        assert clock.monotonic() - began >= module.LEAST_S
        began = clock.monotonic()
        assert await login.token(device, "", "", "10.0.0.7") is None
        assert clock.monotonic() - began >= module.LEAST_S


@pytest.mark.asyncio
async def test_a_correct_signature_is_answered_at_once_among_failures(auth: DeviceAuthenticator) -> None:
    clock = SystemClock()
    await auth.add_trusted_device("pump-1", KEY.public)
    login = TokenLogin(auth, clock, Holding(clock, Always(5.0)))
    failing = [asyncio.create_task(login.token("pump-1", "", "", "10.0.0.7")) for _ in range(50)]
    await asyncio.sleep(0.05)
    assert await login.token("pump-1", *await signed(login), "10.0.0.7") is not None
    assert not any(task.done() for task in failing), "they are held back"
    for task in failing:
        task.cancel()
    await asyncio.gather(*failing, return_exceptions=True)


@pytest.mark.asyncio
async def test_what_is_held_back_is_bounded_and_given_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_HELD", 3)
    holding = Holding(SystemClock(), Always(0.3))
    loop = asyncio.get_running_loop()
    began = loop.time()
    tasks = [asyncio.create_task(holding.refuse("s", "d", SystemClock().monotonic())) for _ in range(10)]
    await asyncio.sleep(0.05)
    assert sum(task.done() for task in tasks) == 7
    await asyncio.gather(*tasks)
    assert loop.time() - began >= 0.25
    assert holding._held == 0
    cut = asyncio.create_task(holding.refuse("s", "d", SystemClock().monotonic()))
    await asyncio.sleep(0.01)
    cut.cancel()
    await asyncio.gather(cut, return_exceptions=True)
    assert holding._held == 0


@pytest.mark.asyncio
async def test_the_wait_counts_from_the_question() -> None:
    """What was spent on the check is taken off, so that the time of an answer says nothing about the check."""
    clock = ManualClock()
    holding = Holding(clock, Always(0.2))
    began = clock.monotonic()
    clock.advance(300_000)
    await asyncio.wait_for(holding.refuse("s", "d", began), 0.1)
