"""What devices are refused once they are in: counted by device, told in the audit log, seen on a real nats-server."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from skerry.broker import Connections, ConnectRequest, Decision, Grant, Violation, WireClient
from skerry.broker.config import SYSTEM
from skerry.broker.server_log import ServerLog
from skerry.core.clock import ManualClock
from skerry.core.errors import UnavailableError
from skerry.device import AuditLog, Refusals, for_anonymous, for_device, read_audit, refusals
from tests.broker.callout_rig import PASSWORDS, Rig, rig, within

BEGIN = 1_800_000_000_000_000
OWNERS = {31: "d1", 32: "d2", 33: "$anonymous"}


def violation(connection: int = 31, kind: str = "publish", topic: str = "devices/d9/x", count: int = 1) -> Violation:
    assert kind in ("publish", "subscribe")
    return Violation("publish" if kind == "publish" else "subscribe", 1, connection, "c", "10.0.0.7:5", topic, count)


class Bench:
    """What is tested, with a clock by hand and a table of owners; `asked` counts the look-ups."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "audit.log"
        self.clock = ManualClock(BEGIN)
        self.audit = AuditLog(self.path, self.clock)
        self.asked = 0
        self.away = False
        self.refusals = Refusals(self.clock, self.audit, self.device_of)

    async def device_of(self, connection: int) -> str:
        self.asked += 1
        if self.away:
            raise UnavailableError("the broker is away")
        return OWNERS.get(connection, "")

    async def take(self, *violations: Violation) -> None:
        """Note them and let them be attributed."""
        self.refusals.note(list(violations))
        running = asyncio.create_task(self.refusals.run())
        await within(2, self.refusals._waiting.empty)
        await asyncio.sleep(0.01)
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)

    def told(self) -> list[dict[str, object]]:
        self.audit.close()
        return [{name: entry[name] for name in entry if name != "timestamp"} for entry in read_audit(self.path).entries]


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


@pytest.mark.asyncio
async def test_counts_by_device_the_last_topic_and_when(bench: Bench) -> None:
    await bench.take(violation(count=3), violation(32), violation(kind="subscribe", topic="#"))
    bench.clock.advance(1_500_000)
    await bench.take(violation(topic="devices/d9/last"))
    assert bench.refusals.of("d1") == {
        "publish": 4, "subscribe": 1, "last": "publish", "last_topic": "devices/d9/last", "last_at": "2027-01-15T08:00:01.500Z",
    }  # fmt: skip
    assert bench.refusals.of("d2")["publish"] == 1
    assert bench.refusals.of("d3") == {"publish": 0, "subscribe": 0}
    assert bench.refusals.totals == {"publish": 5, "subscribe": 1}
    bench.refusals.forget("d1")
    bench.refusals.forget("nobody")
    assert bench.refusals.of("d1") == {"publish": 0, "subscribe": 0}
    assert bench.refusals.totals == {"publish": 5, "subscribe": 1}


@pytest.mark.asyncio
async def test_the_audit_log_is_told_at_once_and_then_once_a_minute(bench: Bench) -> None:
    await bench.take(violation(count=2))
    for _ in range(10):
        await bench.take(violation(count=100))
    line = {
        "event": "publish refused", "by": "d1", "address": "10.0.0.7:5", "reason": "not its topic", "count": 2, "client": "c",
        "topic": "devices/d9/x",
    }  # fmt: skip
    assert bench.told() == [line]
    bench.clock.advance(61_000_000)
    await bench.take(violation(kind="subscribe", topic="#"))
    _, publish, subscribe = bench.told()
    assert (publish["event"], publish["count"], publish["topic"]) == ("publish refused", 1000, "devices/d9/x")
    assert (subscribe["event"], subscribe["count"], subscribe["topic"]) == ("subscribe refused", 1, "#")


@pytest.mark.asyncio
async def test_what_is_left_is_told_when_no_more_comes(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    await bench.take(violation(), violation(32))
    await bench.take(violation(count=5))
    monkeypatch.setattr(refusals, "TELL_S", 0.01)
    bench.clock.advance(1_000_000)
    running = asyncio.create_task(bench.refusals.run())
    await within(2, lambda: len(bench.told()) == 3)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    assert bench.told()[-1]["count"] == 5


@pytest.mark.asyncio
async def test_whose_it_was_is_asked_once_a_connection(bench: Bench) -> None:
    for _ in range(5):
        await bench.take(violation(), violation(kind="subscribe"), violation(33), violation(99))
    assert bench.asked == 3
    assert bench.refusals.of("$anonymous")["publish"] == 5
    assert bench.refusals.of("$unknown")["publish"] == 5


@pytest.mark.asyncio
async def test_where_a_device_is_is_asked_as_the_server_may_see_another_address(bench: Bench) -> None:
    bench.refusals = Refusals(bench.clock, bench.audit, bench.device_of, lambda device, seen: f"{device} seen at {seen}")
    await bench.take(violation())
    assert bench.told()[0]["address"] == "d1 seen at 10.0.0.7:5"


@pytest.mark.asyncio
async def test_a_broker_that_is_away_costs_the_name_only(bench: Bench) -> None:
    bench.away = True
    await bench.take(violation())
    bench.away = False
    await bench.take(violation())
    assert bench.refusals.of("$unknown")["publish"] == 1
    assert bench.refusals.of("d1")["publish"] == 1


@pytest.mark.asyncio
async def test_a_connections_number_means_another_in_the_servers_next_life(bench: Bench) -> None:
    await bench.take(violation())
    before = dict(OWNERS)
    try:
        OWNERS[31] = "d2"
        second = violation()
        second.life = 2
        await bench.take(second)
    finally:
        OWNERS.update(before)
    assert [bench.refusals.of(device)["publish"] for device in ("d1", "d2")] == [1, 1]


@pytest.mark.asyncio
async def test_memory_stays_bounded(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(refusals, "MOST_DEVICES", 2)
    monkeypatch.setattr(refusals, "MOST_CONNECTIONS", 1)
    await bench.take(violation(31, topic="x" * 10_000), violation(32), violation(33), violation(31))
    assert len(bench.refusals._devices) == 2
    assert len(bench.refusals._owners) == 1
    assert bench.refusals.of("d2") == {"publish": 0, "subscribe": 0}
    for _ in range(refusals.MOST_WAITING + 10):
        bench.refusals.note([violation()])
    assert bench.refusals.totals["publish"] == 4 + refusals.MOST_WAITING + 10


class Live:
    """A real server whose log is followed as the node follows it."""

    def __init__(self, on: Rig, refusals: Refusals) -> None:
        self.on = on
        self.refusals = refusals


async def _decide(request: ConnectRequest) -> Decision:
    allowed = for_device(request.username) if request.username else for_anonymous()
    return Grant(request.username or "$anonymous", allowed.publish, allowed.subscribe)


@contextlib.asynccontextmanager
async def live(folder: Path, ports: list[int]) -> AsyncIterator[Live]:
    found: list[Rig] = []

    async def connect() -> WireClient:
        return await found[0].nats(SYSTEM, PASSWORDS[SYSTEM])

    connections = Connections(connect)
    bench = Bench(folder)
    counted = Refusals(bench.clock, bench.audit, connections.device_of)
    log = ServerLog(folder / "server.log")
    async with rig(folder, ports, _decide, connections=connections) as on:
        found.append(on)

        async def follow() -> None:
            while True:
                log.read_on()
                if violations := log.take_violations():
                    counted.note(violations)
                await asyncio.sleep(0.02)

        tasks = [asyncio.create_task(follow()), asyncio.create_task(counted.run())]
        try:
            yield Live(on, counted)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            connections.close()
            log.close()
            bench.audit.close()


@pytest.mark.asyncio
async def test_every_refused_publish_and_subscription_is_counted_for_its_device(
    tmp_path: Path, free_ports: Callable[[int], list[int]]
) -> None:
    """The server writes a line for each: it leaves none out of a flood, and adds none up."""
    async with live(tmp_path, free_ports(3)) as on, on.on.mqtt("c1", "d1") as one, on.on.mqtt("c2", "d2") as two:
        for qos in (0, 1, 2):
            await one.publish("devices/d2/x", qos=qos)
        for _ in range(1000):
            one.client.publish("devices/d2/flood", b"x", 0)
        await two.publish("devices/d2/x")
        assert await two.subscribe("commands/#") == 0x80
        async with on.on.mqtt("c3") as nobody:
            await nobody.publish("status/d1")
        await within(10, lambda: on.refusals.of("d1")["publish"] == 1003 and on.refusals.of("d2")["subscribe"])
        await within(5, lambda: on.refusals.of("$anonymous")["publish"])
        assert on.refusals.of("d1")["last_topic"] == "devices/d2/flood"
        assert on.refusals.of("d2")["publish"] == 0
        assert on.refusals.of("d2")["last_topic"] == "commands/#"
        assert on.refusals.totals == {"publish": 1004, "subscribe": 1}
    told = {(entry["event"], entry["by"]) for entry in read_audit(tmp_path / "audit.log").entries}
    assert told == {("publish refused", "d1"), ("subscribe refused", "d2"), ("publish refused", "$anonymous")}
