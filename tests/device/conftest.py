"""A log-in over records in memory, for the tests that ask for it."""

from collections.abc import Iterator

import pytest

from skerry.core.clock import ManualClock
from skerry.device import BrokerLogin, DeviceAuthenticator, DeviceRegistry, Holding
from skerry.trust import PasswordHash, passwords
from tests.contracts.key_value import MemoryKeyValue
from tests.device.logins import Notes, Patient


@pytest.fixture
def cheap_hashes(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a hash costs is not what is tested here."""
    monkeypatch.setattr(passwords, "LOG2_N", 4)


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(1_000_000)


@pytest.fixture
def store() -> MemoryKeyValue:
    return MemoryKeyValue()


@pytest.fixture
def auth(store: MemoryKeyValue, clock: ManualClock) -> DeviceAuthenticator:
    return DeviceAuthenticator(store, clock=clock)


@pytest.fixture
def registry(auth: DeviceAuthenticator) -> DeviceRegistry:
    return auth.devices


@pytest.fixture
def audit() -> Notes:
    return Notes()


@pytest.fixture
def login(auth: DeviceAuthenticator, clock: ManualClock, audit: Notes) -> Iterator[BrokerLogin]:
    found, tokens = auth.devices, auth.check_token
    login = BrokerLogin(
        found.find, clock, find_by_certificate=found.find_by_certificate, check_token=tokens, holding=Holding(clock, Patient()),
        audit=audit,
    )  # fmt: skip
    login.open = True
    yield login
    login.close()


@pytest.fixture
def hashes(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The hashes that are really computed."""
    found: list[str] = []
    matches = PasswordHash.matches

    def counted(stored: PasswordHash, password: str) -> bool:
        found.append(password)
        return matches(stored, password)

    monkeypatch.setattr(PasswordHash, "matches", counted)
    return found
