"""Streams and buckets on a real server: bounded, made once, trimmed and filled by us; what a session is still owed is seen."""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime

import paho.mqtt.client as paho
import pytest
import pytest_asyncio
from paho.mqtt.enums import CallbackAPIVersion

from skerry.broker import (
    LOG,
    MIB,
    Bucket,
    StreamPlan,
    WireClient,
    api,
    bucket_plan,
    ensure,
    fill_to,
    log_plan,
    read_page,
    sequence_at,
    session_floor,
    stream_state,
    trim,
)
from skerry.core.errors import RejectedError
from tests.contracts.key_value import KeyValueContract
from tests.fixtures.nats import NatsServer, put, until
from tests.fixtures.raw_mqtt import RawMqtt

MESSAGE = "$MQTT.msgs.devices.a.v"


@pytest_asyncio.fixture
async def client(server: NatsServer) -> AsyncIterator[WireClient]:
    found = await server.client()
    await ensure(found, log_plan(64 * MIB))
    await ensure(found, bucket_plan("b", 4 * MIB))
    yield found
    found.close()
    await found.closed


class TestBucket(KeyValueContract):
    """A bucket is a key-value store."""

    @pytest_asyncio.fixture
    async def store(self, client: WireClient) -> Bucket:
        return Bucket(client, "b")


@pytest.mark.asyncio
async def test_the_log_is_ours_before_any_device_connects(server: NatsServer, client: WireClient) -> None:
    def publish() -> bool:
        with RawMqtt(server.mqtt_port) as device:
            return device.publish(b"devices/a/v", b"x")

    assert await asyncio.to_thread(publish)
    config = (await api(client, f"STREAM.INFO.{LOG}"))["config"]
    assert (config["retention"], config["discard"], config["max_bytes"]) == ("limits", "new", 64 * MIB)
    assert [stored.payload for stored in await read_page(client, LOG, "$MQTT.msgs.>", 0)] == [b"x"]


@pytest.mark.asyncio
async def test_limits_are_brought_up_to_date_and_nothing_is_lost(client: WireClient) -> None:
    await put(client, MESSAGE, b"1")
    assert (await ensure(client, log_plan(8 * MIB)))["messages"] == 1
    assert (await api(client, f"STREAM.INFO.{LOG}"))["config"]["max_bytes"] == 8 * MIB
    assert (await ensure(client, log_plan(8 * MIB)))["messages"] == 1


@pytest.mark.asyncio
async def test_a_plan_that_the_server_refuses_is_told_in_its_words(client: WireClient) -> None:
    with pytest.raises(RejectedError, match="overlap"):
        await ensure(client, StreamPlan("other", ("$MQTT.msgs.>",), MIB))
    with pytest.raises(RejectedError, match="not found"):
        await stream_state(client, "nothing")


@pytest.mark.asyncio
async def test_a_full_log_refuses_the_device_and_keeps_what_it_acknowledged(server: NatsServer, client: WireClient) -> None:
    await ensure(client, log_plan(300_000))

    def flood() -> int:
        with RawMqtt(server.mqtt_port) as device:
            acknowledged = 0
            while acknowledged < 20 and device.publish(b"devices/a/v", b"x" * 50_000):
                acknowledged += 1
            return acknowledged

    acknowledged = await asyncio.to_thread(flood)
    assert 0 < acknowledged < 20
    assert (await stream_state(client, LOG))["messages"] == acknowledged


@pytest.mark.asyncio
async def test_trimming_drops_up_to_and_with_a_sequence(client: WireClient) -> None:
    for number in range(10):
        await put(client, MESSAGE, b"%d" % number)
    assert await trim(client, 4) == 4
    assert [stored.sequence for stored in await read_page(client, LOG, ">", 0)] == [5, 6, 7, 8, 9, 10]
    assert await trim(client, 4) == 0


@pytest.mark.asyncio
async def test_filling_raises_the_last_sequence_and_no_further(client: WireClient) -> None:
    await put(client, MESSAGE, b"1")
    assert await fill_to(client, 7000) == 6999
    assert await fill_to(client, 7000) == 0
    assert await put(client, MESSAGE, b"2") == 7001
    assert await fill_to(client, 5) == 0


@pytest.mark.asyncio
async def test_a_time_finds_the_first_message_behind_it(client: WireClient) -> None:
    await put(client, MESSAGE, b"1")
    await asyncio.sleep(0.05)
    between = datetime.now(UTC).isoformat().replace("+00:00", "Z")
    await asyncio.sleep(0.05)
    await put(client, MESSAGE, b"2")
    assert await sequence_at(client, LOG, "2020-01-01T00:00:00Z") == 1
    assert await sequence_at(client, LOG, between) == 2
    assert await sequence_at(client, LOG, "2100-01-01T00:00:00Z") is None


@pytest.mark.asyncio
async def test_what_an_offline_session_is_owed_holds_the_log(server: NatsServer, client: WireClient) -> None:
    assert await session_floor(client) is None

    def session(*, clean: bool, subscribe: bool) -> list[bytes]:
        found: list[bytes] = []
        subscriber = paho.Client(CallbackAPIVersion.VERSION2, client_id="reader", clean_session=clean)
        subscribed: list[object] = []
        subscriber.on_message = lambda c, u, message: found.append(message.payload)
        subscriber.on_subscribe = lambda *_: subscribed.append(1)
        subscriber.connect("127.0.0.1", server.mqtt_port)
        if subscribe:
            subscriber.subscribe("devices/+/v", 1)
        for _ in range(200):
            subscriber.loop(0.02)
            if subscribed or (not subscribe and len(found) == 3):
                break
        subscriber.disconnect()
        subscriber.loop(0.2)
        return found

    def publish() -> None:
        with RawMqtt(server.mqtt_port) as device:
            for _ in range(3):
                assert device.publish(b"devices/a/v", b"x")

    for _ in range(5):
        await put(client, "$MQTT.msgs.other", b"x")
    await asyncio.to_thread(session, clean=False, subscribe=True)
    await asyncio.to_thread(publish)
    floor = await session_floor(client)
    assert floor is not None
    assert floor <= 5, "it must not be trimmed beyond what is owed"
    assert await asyncio.to_thread(session, clean=False, subscribe=False) == [b"x"] * 3

    async def nothing_owed() -> bool:
        return await session_floor(client) is None

    await until(nothing_owed)
