"""Who gets in: the gate, passwords, anonymous clients, storms and floods; what is counted and what is written down."""

import asyncio
import logging
from collections.abc import Iterator
from typing import Any

import pytest
import structlog

from skerry.broker import Grant
from skerry.core.clock import SECOND, ManualClock, SystemClock
from skerry.core.errors import UnavailableError
from skerry.device import BrokerLogin, Device, DeviceRegistry, Holding, for_anonymous, for_device
from skerry.device import login as module
from skerry.device.registry import Credential
from tests.device.logins import PASSWORD, Notes, Patient, asks, reason

pytestmark = pytest.mark.usefixtures("cheap_hashes")


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
    await registry.add("keyless", Credential())
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
async def test_records_that_cannot_be_read_are_a_refusal(clock: ManualClock, registry: DeviceRegistry) -> None:
    async def find(name: str) -> Device | None:
        if name == "away":
            raise UnavailableError("the store is away")
        return Device(id=name, format=1, created=0, password="not a hash")

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


@pytest.mark.asyncio
async def test_a_client_id_that_is_another_s_is_refused(login: BrokerLogin, registry: DeviceRegistry) -> None:
    class Owners:
        async def claim(self, client_id: str, device: str) -> bool:
            return client_id != "taken"

    await registry.add_with("d1", password=PASSWORD)
    login.client_ids = Owners()
    assert reason(await login.decide(asks("d1", client_id="mine"))) == "granted"
    assert reason(await login.decide(asks("d1", client_id="taken"))) == "client-id-taken"
    assert reason(await login.decide(asks("d1", "wrong-horse", client_id="taken"))) == "bad-password"


@pytest.mark.asyncio
async def test_the_audit_log_is_told_who_and_why(login: BrokerLogin, registry: DeviceRegistry, audit: Notes) -> None:
    await registry.add_with("d1", password=PASSWORD)
    await login.decide(asks("d1"))
    await login.decide(asks("x" * 1000, "wrong-horse"))
    common = {"address": "10.0.0.7", "client": "c1", "why": ""}
    assert audit.entries == [
        {"event": "log-in", "by": "d1", "reason": "", **common},
        {"event": "log-in refused", "by": "x" * 64, "reason": "unknown", **common},
    ]
    assert "horse" not in repr(audit.entries)


@pytest.mark.asyncio
async def test_only_what_speaks_against_a_credential_counts_as_a_failure(registry: DeviceRegistry, clock: ManualClock) -> None:
    attempts = Patient()
    await registry.add_with("d1", password=PASSWORD)
    login = BrokerLogin(registry.find, clock, holding=Holding(clock, attempts))
    try:
        await login.decide(asks("d1"))
        login.open = True
        await login.decide(asks("", ""))
        await login.decide(asks("d1"))
        login.refuse_new("log-full")
        await login.decide(asks("d1"))
        login.refuse_new("")
        assert attempts.failed == []
        await login.decide(asks("d1", "wrong-horse"))
        await login.decide(asks("nobody"))
    finally:
        login.close()
    assert attempts.failed == [("10.0.0.7", "d1"), ("10.0.0.7", "nobody")]


@pytest.mark.asyncio
async def test_who_fails_often_waits_and_the_right_one_does_not(registry: DeviceRegistry) -> None:
    clock = SystemClock()
    await registry.add_with("d1", password=PASSWORD)
    login = BrokerLogin(registry.find, clock)
    login.open = True
    try:
        # each name anew, and each from the same source
        for number in range(20):
            assert reason(await login.decide(asks(f"bot-{number}"))) == "unknown"
        late = [asyncio.create_task(login.decide(asks(f"late-{number}"))) for number in range(4)]
        assert reason(await login.decide(asks("d1"))) == "granted"
        assert not any(task.done() for task in late), "they are held back"
        assert {reason(each) for each in await asyncio.gather(*late)} == {"unknown"}
    finally:
        login.close()


@pytest.mark.asyncio
async def test_the_last_log_in_is_remembered(login: BrokerLogin, registry: DeviceRegistry, clock: ManualClock) -> None:
    await registry.add_with("d1", password=PASSWORD)
    assert login.last("d1") is None
    await login.decide(asks("d1", "wrong-horse"))
    assert login.last("d1") is None
    clock.advance(5 * SECOND)
    await login.decide(asks("d1"))
    found = login.last("d1")
    assert found is not None
    assert (found.at, found.address) == (clock.now(), "10.0.0.7")
    login.forget("d1")
    login.forget("nobody")
    assert login.last("d1") is None


@pytest.mark.asyncio
async def test_last_log_ins_are_bounded(
    login: BrokerLogin, registry: DeviceRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:  # fmt: skip
    monkeypatch.setattr(module, "MOST_LAST", 2)
    for number in range(4):
        await registry.add_with(f"d{number}", password=PASSWORD)
        await login.decide(asks(f"d{number}"))
    assert [login.last(f"d{number}") is not None for number in range(4)] == [False, False, True, True]
