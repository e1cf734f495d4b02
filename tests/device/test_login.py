"""Who gets in: the gate, passwords, anonymous clients, storms and floods; what is counted and what is written down."""

import asyncio
import logging
import threading
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest
import structlog

from skerry.broker import ConnectRequest, Decision, Grant, Refusal
from skerry.core.clock import ManualClock
from skerry.core.errors import UnavailableError
from skerry.device import BrokerLogin, Device, DeviceRegistry, for_anonymous, for_device
from skerry.device import login as module
from skerry.trust import PasswordHash, passwords
from tests.contracts.key_value import MemoryKeyValue

PASSWORD = "correct-horse"
MQTT = ConnectRequest(server="NSERVER", user_key="UKEY", transport="mqtt", client_id="c1", address="10.0.0.7")


def asks(username: str, password: str = PASSWORD, **more: Any) -> ConnectRequest:
    return msgspec.structs.replace(MQTT, username=username, password=password, **more)


@pytest.fixture(autouse=True)
def cheap_hashes(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a hash costs is not what is tested here."""
    monkeypatch.setattr(passwords, "LOG2_N", 4)


class Checks:
    """Counts the hashes that are really computed, and can hold them up."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.count = 0
        self.go = threading.Event()
        self.go.set()
        matches = PasswordHash.matches

        def counted(stored: PasswordHash, password: str) -> bool:
            self.count += 1
            assert self.go.wait(10)
            return matches(stored, password)

        monkeypatch.setattr(PasswordHash, "matches", counted)


@pytest.fixture
def checks(monkeypatch: pytest.MonkeyPatch) -> Checks:
    return Checks(monkeypatch)


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(1_000_000)


@pytest.fixture
def registry(clock: ManualClock) -> DeviceRegistry:
    return DeviceRegistry(MemoryKeyValue(), clock)


@pytest.fixture
def login(registry: DeviceRegistry, clock: ManualClock) -> Iterator[BrokerLogin]:
    login = BrokerLogin(registry.find, clock)
    login.open = True
    yield login
    login.close()


@pytest.fixture
def lines() -> Iterator[list[dict[str, Any]]]:
    found: list[dict[str, Any]] = []

    def keep(logger: object, method: str, event: Any) -> Any:
        found.append({**event, "level": method})
        raise structlog.DropEvent

    before = structlog.get_config()
    structlog.configure(processors=[keep], logger_factory=structlog.stdlib.LoggerFactory(), cache_logger_on_first_use=False)
    logging.getLogger("skerry.audit").setLevel(logging.INFO)
    yield found
    structlog.configure(**before)


def reason(decision: Decision) -> str:
    return decision.reason if isinstance(decision, Refusal) else "granted"


@pytest.mark.asyncio
async def test_the_right_password_opens_the_devices_own_topics(login: BrokerLogin, registry: DeviceRegistry) -> None:
    await registry.add_with_password("d1", PASSWORD, ["sub:events/#"])
    allowed = for_device("d1", ["sub:events/#"])
    assert await login.decide(asks("d1")) == Grant("d1", allowed.publish, allowed.subscribe)
    assert (login.granted, dict(login.refused)) == (1, {})


@pytest.mark.asyncio
async def test_each_refusal_has_its_reason(login: BrokerLogin, registry: DeviceRegistry) -> None:
    await registry.add_with_password("d1", PASSWORD)
    await registry.add_with_password("gone", PASSWORD)
    await registry.revoke("gone")
    await registry.add("keyless", "")
    cases = {
        "bad-password": asks("d1", "wrong-horse"),
        "unknown": asks("nobody"),
        "revoked": asks("gone"),
        "anonymous-off": asks("", ""),
    }
    for expected, request in cases.items():
        assert reason(await login.decide(request)) == expected
    assert dict(login.refused) == dict.fromkeys(cases, 1)
    assert reason(await login.decide(asks("gone", "wrong-horse"))) == "bad-password"
    assert reason(await login.decide(asks("keyless", ""))) == "bad-password"
    assert login.granted == 0


@pytest.mark.asyncio
async def test_nobody_gets_in_before_the_gate_is_open(registry: DeviceRegistry, clock: ManualClock) -> None:
    await registry.add_with_password("d1", PASSWORD)
    login = BrokerLogin(registry.find, clock, anonymous=True)
    try:
        assert reason(await login.decide(asks("d1"))) == "gate-closed"
        assert reason(await login.decide(asks("", ""))) == "gate-closed"
        login.open = True
        assert reason(await login.decide(asks("d1"))) == "granted"
        assert reason(await login.decide(asks("", ""))) == "granted"
    finally:
        login.close()
    assert reason(await login.decide(asks("d1"))) == "gate-closed"


@pytest.mark.asyncio
async def test_a_full_log_refuses_everybody_until_there_is_room(login: BrokerLogin, registry: DeviceRegistry) -> None:
    await registry.add_with_password("d1", PASSWORD)
    login.refuse_new("log-full")
    assert reason(await login.decide(asks("d1"))) == "log-full"
    login.refuse_new("")
    assert reason(await login.decide(asks("d1"))) == "granted"
    assert dict(login.refused) == {"log-full": 1}


@pytest.mark.asyncio
async def test_anonymous_clients_get_in_where_that_is_on(registry: DeviceRegistry, clock: ManualClock) -> None:
    await registry.add_with_password("d1", PASSWORD)
    login = BrokerLogin(registry.find, clock, anonymous=True)
    login.open = True
    try:
        decision = await login.decide(asks("", ""))
        assert isinstance(decision, Grant)
        assert (decision.publish, decision.subscribe) == (for_anonymous().publish, for_anonymous().subscribe)
        assert reason(await login.decide(asks("d1", "wrong-horse"))) == "bad-password"
    finally:
        login.close()


@pytest.mark.asyncio
async def test_a_storm_of_reconnects_costs_one_hash_a_device(login: BrokerLogin, registry: DeviceRegistry, checks: Checks) -> None:
    await registry.add_with_password("d1", PASSWORD)
    for _ in range(500):
        assert reason(await login.decide(asks("d1"))) == "granted"
    assert checks.count == 1
    assert reason(await login.decide(asks("d1", "wrong-horse"))) == "bad-password"
    assert checks.count == 2


@pytest.mark.asyncio
async def test_what_is_remembered_ends_with_the_record(login: BrokerLogin, registry: DeviceRegistry) -> None:
    await registry.add_with_password("d1", PASSWORD)
    assert reason(await login.decide(asks("d1"))) == "granted"
    await registry.revoke("d1")
    assert reason(await login.decide(asks("d1"))) == "revoked"
    await registry.remove("d1")
    assert reason(await login.decide(asks("d1"))) == "unknown"
    await registry.add_with_password("d1", "another-password")
    assert reason(await login.decide(asks("d1"))) == "bad-password"
    assert reason(await login.decide(asks("d1", "another-password"))) == "granted"


@pytest.mark.asyncio
async def test_a_device_that_was_just_refused_gets_in_when_it_is_added(login: BrokerLogin, registry: DeviceRegistry) -> None:
    assert reason(await login.decide(asks("d1"))) == "unknown"
    await registry.add_with_password("d1", PASSWORD)
    assert reason(await login.decide(asks("d1"))) == "granted"


@pytest.mark.asyncio
async def test_wrong_passwords_cost_a_hash_now_and_then_only(
    login: BrokerLogin, registry: DeviceRegistry, checks: Checks, clock: ManualClock
) -> None:
    await registry.add_with_password("d1", PASSWORD)
    for _ in range(50):
        assert reason(await login.decide(asks("d1", "wrong-horse"))) == "bad-password"
    assert checks.count == 1
    clock.advance(31_000_000)
    assert reason(await login.decide(asks("d1", "wrong-horse"))) == "bad-password"
    assert checks.count == 2


@pytest.mark.asyncio
async def test_unknown_devices_cost_the_same_hash_as_known_ones(
    login: BrokerLogin, registry: DeviceRegistry, checks: Checks
) -> None:
    await registry.add_with_password("d1", PASSWORD)
    for number in range(3):
        before = checks.count
        assert reason(await login.decide(asks("d1", f"wrong-{number}-horse"))) == "bad-password"
        assert reason(await login.decide(asks("nobody", f"wrong-{number}-horse"))) == "unknown"
        assert checks.count - before == 2


@pytest.mark.asyncio
async def test_a_flood_is_refused_at_once_and_known_devices_still_get_in(
    login: BrokerLogin, registry: DeviceRegistry, checks: Checks
) -> None:
    await registry.add_with_password("d1", PASSWORD)
    assert reason(await login.decide(asks("d1"))) == "granted"
    checks.go.clear()
    flood = [asyncio.create_task(login.decide(asks(f"bot{number}"))) for number in range(200)]
    await asyncio.sleep(0.05)
    refused = [task.result() for task in flood if task.done()]
    assert len(refused) == 200 - module.MOST_WAITING
    assert set(refused) == {Refusal("busy")}
    assert checks.count <= module.HASH_THREADS + 1
    assert reason(await login.decide(asks("d1"))) == "granted"
    for task in flood:
        task.cancel()
    await asyncio.gather(*flood, return_exceptions=True)
    checks.go.set()
    assert reason(await login.decide(asks("bot"))) == "unknown"


@pytest.mark.asyncio
async def test_memory_stays_bounded(login: BrokerLogin, registry: DeviceRegistry, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_REMEMBERED", 3)
    monkeypatch.setattr(module, "WRONG_REMEMBERED", 4)
    for number in range(6):
        await registry.add_with_password(f"d{number}", PASSWORD)
        assert reason(await login.decide(asks(f"d{number}"))) == "granted"
        assert reason(await login.decide(asks(f"d{number}", "wrong-horse"))) == "bad-password"
    assert len(login._seen._right) == 3
    assert len(login._seen._wrong) == 4


@pytest.mark.asyncio
async def test_records_that_cannot_be_read_are_a_refusal(clock: ManualClock, registry: DeviceRegistry) -> None:
    async def find(name: str) -> Device | None:
        if name == "away":
            raise UnavailableError("the store is away")
        return Device(name, 1, 0, "not a hash")

    login = BrokerLogin(find, clock)
    login.open = True
    try:
        assert reason(await login.decide(asks("away"))) == "unavailable"
        assert reason(await login.decide(asks("damaged"))) == "unavailable"
    finally:
        login.close()


@pytest.mark.asyncio
async def test_every_log_in_is_written_down_without_the_password(
    login: BrokerLogin, registry: DeviceRegistry, lines: list[dict[str, Any]]
) -> None:
    await registry.add_with_password("d1", PASSWORD)
    await login.decide(asks("d1"))
    await login.decide(asks("d1", "wrong-horse"))
    assert lines == [
        {"event": "log-in", "level": "info", "device": "d1", "client": "c1", "address": "10.0.0.7"},
        {
            "event": "log-in refused", "level": "warning", "device": "d1", "client": "c1", "address": "10.0.0.7",
            "reason": "bad-password",
        },
    ]  # fmt: skip
    assert "horse" not in repr(lines) + repr(asks("d1"))


@pytest.mark.asyncio
async def test_a_flood_cannot_fill_the_log(login: BrokerLogin, clock: ManualClock, lines: list[dict[str, Any]]) -> None:
    login.open = False
    for _ in range(1000):
        await login.decide(asks("x" * 60_000))
    assert len(lines) == module.LINES_A_SECOND
    assert len(repr(lines)) < 10_000
    clock.advance(1_000_000)
    await login.decide(asks("d1"))
    assert lines[-1]["lines_left_out"] == 1000 - module.LINES_A_SECOND
    assert login.refused["gate-closed"] == 1001
