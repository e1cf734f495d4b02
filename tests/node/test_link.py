"""Trimming the log, against a real nats-server: never past a stored cursor, never past what a session is owed."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from skerry.broker import LOG, SHARE, BrokerConfig, Callout, ConnectRequest, Grant, NatsServer, WireClient, stream_state
from skerry.core.clock import SystemClock
from skerry.core.errors import UnavailableError
from skerry.core.service import cancel_and_wait
from skerry.device import BrokerLogin, Device
from skerry.mqtt import MqttClient, MqttConfig
from skerry.node import link as link_module
from skerry.node.link import CLIENTS, Ages, Link, LinkedBucket, ghosts_in
from skerry.trust import TokenSigner, load_or_create
from tests.fixtures.raw_mqtt import RawMqtt, leave_session

MIB = 1024 * 1024


def test_what_was_not_seen_is_young() -> None:
    ages = Ages(100.0)
    assert ages.older_than(0) is None
    ages.note(5.0, 10)
    assert ages.older_than(100) is None
    ages.note(105.0, 99)
    assert ages.older_than(100) == 10
    assert ages.older_than(100) is None, "said once"


@settings(max_examples=200, deadline=None)
@given(st.lists(st.tuples(st.floats(0.01, 30), st.integers(0, 50)), max_size=400), st.floats(1, 1000))
def test_nothing_younger_than_the_span_is_called_old(steps: list[tuple[float, int]], span: float) -> None:
    """Whatever is called old was in the log for the span at least; and what is twice that old is found."""
    ages, now, last = Ages(span), 0.0, 0
    came: list[tuple[float, int]] = []
    found = 0
    for passed, messages in steps:
        now += passed
        last += messages
        came.append((now, last))
        ages.note(now, last)
        old = ages.older_than(span)
        if old is not None:
            assert old >= found
            found = old
        youngest_allowed = max((sequence for seen, sequence in came if now - seen >= span), default=0)
        assert found <= youngest_allowed
        long_ago = max((sequence for seen, sequence in came if now - seen >= 2 * span + 31), default=0)
        assert found >= long_ago


class Rig:
    """A server, a login that lets all in, and one link over it."""

    def __init__(self, folder: Path, log_bytes: int = 32 * MIB, age_s: float = 3600.0) -> None:
        self.clock = SystemClock()
        self.signer = TokenSigner(load_or_create(folder / "seed"))
        config = BrokerConfig(mqtt="127.0.0.1:0", anonymous=True)
        self.server = NatsServer(config, folder, self.signer.public, link_module.quotas(log_bytes, 0), self.clock)
        self.login = BrokerLogin(self._find, self.clock, anonymous=True)
        self.durable: int | None = 0
        self.link = Link(self.clock, log_bytes, MIB, round(age_s * 1e6), self.login, [], lambda: self.durable, lambda: ([], 1))

    async def _find(self, device: str) -> Device | None:
        return None

    @asynccontextmanager
    async def running(self) -> AsyncIterator[WireClient]:
        server = asyncio.create_task(self.server.run())
        async with asyncio.timeout(20):
            await self.server.ready.wait()
        mine, other = [
            await WireClient.connect(self.server.host, self.server.port, self.server.user, self.server.password, name)
            for name in ("node", "test")
        ]
        callout = Callout(mine, self.signer, self.login.decide, self.clock, refused=self.login.refused)
        linked = asyncio.create_task(self.link.run(mine, callout))
        try:
            async with asyncio.timeout(10):
                await self.link.opened.wait()
            yield other
            assert not linked.done(), linked.exception()
        finally:
            await cancel_and_wait(linked)
            mine.close()
            other.close()
            self.login.close()
            await cancel_and_wait(server)

    def device(self, name: str) -> MqttClient:
        return MqttClient(MqttConfig(f"mqtt://{self.server.mqtt_address}", name, keep_alive=30))


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same work in a tenth of the time."""
    monkeypatch.setattr(link_module, "TRIM_S", 0.1)
    monkeypatch.setattr(link_module, "SESSIONS_S", 0.3)
    monkeypatch.setattr(link_module, "MARGIN_S", 0.5)


async def until(what: Callable[[], Any], seconds: float = 10.0) -> None:
    deadline = time.monotonic() + seconds
    while not await what():
        assert time.monotonic() < deadline, "it did not come to that"
        await asyncio.sleep(0.05)


async def first(client: WireClient) -> int:
    return int((await stream_state(client, LOG))["first_seq"])


@pytest.mark.asyncio
@pytest.mark.usefixtures("quick")
async def test_the_log_is_trimmed_up_to_the_stored_cursor_and_not_further(tmp_path: Path) -> None:
    rig = Rig(tmp_path)
    rig.durable = None
    async with rig.running() as client, rig.device("d") as device:
        for at in range(20):
            await device.publish(f"devices/d/{at}", b"x", qos=1)
        await asyncio.sleep(1.2)
        assert await first(client) == 1, "nothing is known to be stored"
        for cursor in (5, 12):
            rig.durable = cursor
            await until(lambda wanted=cursor: _is(first(client), wanted + 1))
            await asyncio.sleep(0.3)
            assert await first(client) == cursor + 1
        rig.durable = 3
        await asyncio.sleep(0.8)
        assert (await stream_state(client, LOG))["last_seq"] == 20
        assert await first(client) == 13


@pytest.mark.asyncio
@pytest.mark.usefixtures("quick")
async def test_while_a_backup_holds_the_log_nothing_is_trimmed(tmp_path: Path) -> None:
    rig = Rig(tmp_path)
    async with rig.running() as client, rig.device("d") as device:
        rig.link.hold(900)
        for at in range(20):
            await device.publish(f"devices/d/{at}", b"x", qos=1)
        rig.durable = 12
        await asyncio.sleep(1.2)
        assert await first(client) == 1
        rig.link.hold(0)
        await until(lambda: _is(first(client), 13))


@pytest.mark.asyncio
@pytest.mark.usefixtures("quick")
async def test_a_log_that_is_shut_takes_nothing_and_drops_nothing(tmp_path: Path) -> None:
    rig = Rig(tmp_path)
    async with rig.running() as client, rig.device("d") as device:
        for _ in range(30):
            await device.publish("devices/d/v", b"x" * 100_000, qos=1)
        await until(lambda: _at_least(client, 30))
        await asyncio.sleep(0.3)
        rig.link.shut(True)
        with pytest.raises(UnavailableError):
            await _publish_on(device)
        held = await stream_state(client, LOG)
        assert (held["first_seq"], held["messages"]) == (1, held["last_seq"])
        assert held["bytes"] < 16 * MIB, "half of what it may hold"
        await asyncio.sleep(0.3)
        assert rig.login._shut_reason == "disk-full"
        rig.link.shut(False)
        await until(lambda: _open(rig))
        async with asyncio.timeout(20):
            await device.publish("devices/d/v", b"x", qos=1)
        assert (await stream_state(client, LOG))["first_seq"] == 1


async def _publish_on(device: MqttClient) -> None:
    while True:
        await device.publish("devices/d/v", b"x" * 100_000, qos=1, timeout=2)


async def _at_least(client: WireClient, count: int) -> bool:
    return int((await stream_state(client, LOG))["messages"]) >= count


async def _open(rig: Rig) -> bool:
    return not rig.login._shut_reason


async def _is(asked: Any, wanted: object) -> bool:
    return bool(await asked == wanted)


@pytest.mark.asyncio
@pytest.mark.usefixtures("quick")
async def test_a_session_that_is_away_holds_what_it_is_owed(tmp_path: Path) -> None:
    rig = Rig(tmp_path)
    async with rig.running() as client, rig.device("d") as device:
        away = MqttClient(MqttConfig(f"mqtt://{rig.server.mqtt_address}", "away", keep_alive=30, clean_session=False))
        async with away, away.subscribe("devices/d/#", qos=1):
            await device.publish("devices/d/before", b"seen", qos=1)
            await asyncio.sleep(0.3)
        for at in range(10):
            await device.publish("devices/d/x", b"%d" % at, qos=1)
        last = int((await stream_state(client, LOG))["last_seq"])
        await asyncio.sleep(0.5)
        rig.durable = last
        await asyncio.sleep(1.5)
        assert await first(client) <= last - 9, "owed to the session"
        back = MqttClient(MqttConfig(f"mqtt://{rig.server.mqtt_address}", "away", keep_alive=30, clean_session=False))
        got: set[bytes] = set()
        wanted = {b"seen", *(b"%d" % at for at in range(10))}
        async with back, back.subscribe("devices/d/#", qos=1) as messages:
            async with asyncio.timeout(10):
                async for message in messages:
                    got.add(message.payload)
                    await message.ack()
                    if got >= wanted:  # what the server had sent to the connection that went comes last, when its ack_wait is over
                        break
            await until(lambda: _is(first(client), last + 1))


@pytest.mark.asyncio
@pytest.mark.usefixtures("quick")
async def test_retention_gives_up_what_nobody_read_and_counts_it(tmp_path: Path) -> None:
    rig = Rig(tmp_path, age_s=1.5)
    async with rig.running() as client, rig.device("d") as device:
        for _ in range(7):
            await device.publish("devices/d/x", b"x", qos=1)
        await asyncio.sleep(0.7)
        assert await first(client) == 1
        assert rig.link.gone.messages == 0
        await until(lambda: _is(first(client), 8))
        await asyncio.sleep(0.3)
        assert rig.link.gone.messages == 7
        await device.publish("devices/d/x", b"young", qos=1)
        await asyncio.sleep(0.5)
        assert (await stream_state(client, LOG))["messages"] == 1


@pytest.mark.asyncio
@pytest.mark.usefixtures("quick")
async def test_a_log_that_is_nearly_full_shuts_the_gate_and_opens_it_again(tmp_path: Path) -> None:
    rig = Rig(tmp_path, log_bytes=2 * MIB)

    async def lets_in() -> bool:
        request = ConnectRequest(server="S", user_key="U", transport="mqtt", client_id="x")
        return isinstance(await rig.login.decide(request), Grant)

    async with rig.running() as client, rig.device("d") as device:
        assert await lets_in()
        for _ in range(40):
            try:
                async with asyncio.timeout(1):
                    await device.publish("devices/d/x", bytes(60_000), qos=1)
            except TimeoutError:
                break
        await until(lambda: _is(lets_in(), False))
        assert rig.link.fill > 0.9
        assert rig.login.refused["log-full"] >= 1
        rig.durable = int((await stream_state(client, LOG))["last_seq"])
        await until(lets_in)
        assert rig.link.fill < 0.9


@pytest.mark.asyncio
@pytest.mark.usefixtures("quick")
async def test_a_bucket_is_there_while_the_link_is_and_is_read_before_anybody_gets_in(tmp_path: Path) -> None:
    bucket = LinkedBucket(CLIENTS)
    for call in (bucket.get("a"), bucket.set("a", b"1"), bucket.delete("a"), bucket.items()):
        with pytest.raises(UnavailableError):
            await call
    rig = Rig(tmp_path)
    open_then: list[bool] = []

    async def prepare() -> None:
        open_then.append(rig.login.open)
        await rig.link.clients.set("clients/d1", b"{}")

    rig.link.prepare_clients = prepare
    async with rig.running():
        assert open_then == [False]
        assert await rig.link.clients.items("clients/") == [("clients/d1", b"{}")]
        await rig.link.clients.delete("clients/d1")
        assert await rig.link.clients.get("clients/d1") is None
    with pytest.raises(UnavailableError, match="the log does not answer now"):
        await rig.link.clients.get("clients/d1")


@pytest.mark.parametrize(
    ("messages", "first", "last", "ghosts"), [(0, 1, 0, 0), (0, 8, 7, 0), (3, 5, 7, 0), (1, 8, 7, 1), (6, 15, 19, 1), (4, 1, 5, 0)]
)
def test_messages_that_are_counted_and_gone(messages: int, first: int, last: int, ghosts: int) -> None:
    assert ghosts_in({"messages": messages, "first_seq": first, "last_seq": last}) == ghosts


@pytest.mark.asyncio
@pytest.mark.usefixtures("quick")
async def test_a_log_that_counts_what_is_gone_is_told_of_before_it_is_full_of_it(tmp_path: Path) -> None:
    rig = Rig(tmp_path, log_bytes=2 * MIB)
    told: list[str] = []
    rig.link.haunted = told.append
    async with rig.running() as client:
        with await asyncio.to_thread(RawMqtt, rig.server.mqtt_listener()[1]) as device:
            for at in range(12):
                assert await asyncio.to_thread(device.publish, b"devices/d/" + b"x" * 65_520, b"%d" % at)
            assert await asyncio.to_thread(device.publish, b"devices/d/x", b"y")
        assert told == []
        rig.durable = 12
        await until(lambda: _is(asyncio.sleep(0, bool(told)), True))
        assert told[0].startswith("it counts 12 messages in the log that are gone")
        assert (await stream_state(client, LOG))["first_seq"] == 13


@pytest.mark.asyncio
@pytest.mark.usefixtures("quick")
async def test_what_one_device_leaves_open_is_brought_back_to_its_share(tmp_path: Path) -> None:
    rig = Rig(tmp_path)
    port = rig.server.mqtt_listener
    async with rig.running() as client:
        assert await asyncio.to_thread(leave_session, port()[1], "bob", ["commands/bob/x"]) == [1]
        for number in range(10):
            topics = [f"commands/mallory/{number}/{at}" for at in range(60)]
            assert await asyncio.to_thread(leave_session, port()[1], f"m{number}", topics) == [1] * 60

        async def near_its_share() -> bool:
            # it is looked again when as many as a share have come
            return SHARE < int((await stream_state(client, LOG))["consumer_count"]) <= 2 * SHARE + 1

        await until(near_its_share)
        assert await asyncio.to_thread(leave_session, port()[1], "carl", ["commands/carl/x"]) == [1]
