"""The client against real brokers that stay up."""

import asyncio
import socket
import time
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from skerry.core.errors import RejectedError, UnavailableError
from skerry.mqtt import LastWill, Message, MqttClient, MqttConfig, Subscription
from tests.mqtt.brokers import DURABLE, Broker, until

pytestmark = pytest.mark.asyncio


async def take(messages: Subscription, count: int, seconds: float = 10.0) -> list[Message]:
    async with asyncio.timeout(seconds):
        return [await anext(messages) for _ in range(count)]


async def is_quiet(messages: Subscription, seconds: float = 0.3) -> bool:
    try:
        async with asyncio.timeout(seconds):
            await anext(messages)
    except TimeoutError:
        return True
    return False


@pytest_asyncio.fixture
async def client(broker: Broker) -> AsyncIterator[MqttClient]:
    async with MqttClient(broker.config(client_id="c")) as client:
        yield client


@pytest.mark.parametrize("broker", DURABLE, indirect=True)
@pytest.mark.parametrize("qos", [0, 1, 2])
async def test_what_is_published_arrives(client: MqttClient, qos: int) -> None:
    async with client.subscribe("site/+/x") as messages:
        await client.publish("site/a/x", b"one", qos)
        await client.publish("elsewhere", b"not for us", qos)
        await client.publish("site/b/x", b"", qos)
        found = await take(messages, 2)
        assert [(m.topic, m.payload, m.qos, m.retained) for m in found] == [
            ("site/a/x", b"one", min(qos, 1), False),
            ("site/b/x", b"", min(qos, 1), False),
        ]
        for message in found:
            await message.ack()


@pytest.mark.parametrize("broker", DURABLE, indirect=True)
@pytest.mark.parametrize("qos", [0, 1, 2])
async def test_many_at_once_keep_their_order(client: MqttClient, qos: int) -> None:
    async with client.subscribe("n/#") as messages:

        async def read() -> list[int]:
            numbers = []
            for _ in range(500):
                message = await anext(messages)
                numbers.append(int(message.payload))
                await message.ack()
            return numbers

        reading = asyncio.create_task(read())
        async with asyncio.timeout(20):
            await asyncio.gather(*(client.publish("n/1", b"%d" % number, qos) for number in range(500)))
            assert await reading == list(range(500))


@pytest.mark.parametrize("broker", DURABLE, indirect=True)
async def test_retained_messages_come_to_later_subscribers(client: MqttClient) -> None:
    await client.publish("state", b"on", retain=True)
    async with client.subscribe("state") as messages:
        (message,) = await take(messages, 1)
        assert (message.payload, message.retained) == (b"on", True)
        await message.ack()


@pytest.mark.parametrize("broker", ["aedes"], indirect=True)
async def test_a_broker_in_memory_takes_and_gives(client: MqttClient) -> None:
    async with client.subscribe("site/+/x") as messages:
        for qos in (0, 1, 2):
            await client.publish(f"site/{qos}/x", b"one", qos)
        found = await take(messages, 3)
        assert [m.topic for m in found] == ["site/0/x", "site/1/x", "site/2/x"]
        for message in found:
            await message.ack()


async def test_overlapping_subscriptions_each_get_the_message(client: MqttClient) -> None:
    async with client.subscribe("o/#") as wide, client.subscribe("o/1") as narrow:
        await client.publish("o/1", b"x")
        for messages in (wide, narrow):
            (message,) = await take(messages, 1)
            assert message.payload == b"x"
            await message.ack()


@pytest.mark.parametrize("broker", DURABLE, indirect=True)
async def test_a_last_will_is_published_for_a_death_and_not_for_a_good_bye(broker: Broker) -> None:
    will = LastWill("status/w", b"gone", retain=False)
    async with MqttClient(broker.config(client_id="watch")) as watch, watch.subscribe("status/#") as messages:
        async with MqttClient(broker.config(client_id="w", last_will=will)):
            pass
        assert await is_quiet(messages)
        async with MqttClient(broker.config(client_id="w", last_will=will)) as client:
            sock = client._connection._paho.socket()
            assert isinstance(sock, socket.socket)
            sock.shutdown(socket.SHUT_RDWR)
            (message,) = await take(messages, 1)
            assert message.payload == b"gone"


@pytest.mark.parametrize("topic", ["", "a/#", "a/+/b"])
async def test_a_topic_that_is_none_is_rejected_and_takes_no_place(broker: Broker, topic: str) -> None:
    async with MqttClient(broker.config(client_id="c", max_in_flight=1)) as client:
        for _ in range(3):
            with pytest.raises(RejectedError, match="cannot publish"):
                await client.publish(topic, b"x")
        with pytest.raises(RejectedError):
            await client.publish("a", b"x", 3)
        await client.publish("a", b"x", timeout=5)


async def test_a_filter_that_is_none_is_rejected(client: MqttClient) -> None:
    with pytest.raises(RejectedError, match="not a topic filter"):
        async with client.subscribe("a/#/b"):
            pass
    with pytest.raises(RejectedError, match="at least once"):
        client.subscribe("a", qos=2)


async def test_bad_credentials_are_rejected_in_words(guarded_broker: Broker) -> None:
    for fields in ({"username": "ann", "password": "wrong"}, {}):
        began = time.monotonic()
        with pytest.raises(RejectedError) as caught:
            async with MqttClient(guarded_broker.config(client_id="c", **fields)):
                pass
        assert time.monotonic() - began < 4
        text = str(caught.value)
        assert guarded_broker.url in text
        assert "not authorised" in text or "bad user name or password" in text
        assert "check username and password" in text
        assert "wrong" not in text


async def test_good_credentials_are_let_in(guarded_broker: Broker) -> None:
    async with MqttClient(guarded_broker.config(client_id="c", username="ann", password="secret")) as client:
        await client.publish("a", b"x", timeout=5)
        assert client.status == f"{guarded_broker.url}: connected"
    assert client.status == f"{guarded_broker.url}: closed"


async def test_the_buffers_are_bounded_and_what_found_no_room_comes_again(broker: Broker) -> None:
    async with MqttClient(broker.config(client_id="slow", buffer=5)) as slow, slow.subscribe("b/#") as messages:
        async with MqttClient(broker.config(client_id="fast")) as fast:
            await asyncio.gather(*(fast.publish("b/1", b"%d" % number) for number in range(16)))
        await until(lambda: slow.unread >= 11)
        found: set[int] = set()
        async with asyncio.timeout(20):
            while len(found) < 16:
                message = await anext(messages)
                await message.ack()
                found.add(int(message.payload))
        assert slow.reconnects > 0
        assert slow.dropped == 0


async def test_qos_0_that_finds_no_room_is_dropped_and_counted(broker: Broker) -> None:
    async with MqttClient(broker.config(client_id="slow", buffer=5)) as slow, slow.subscribe("b/#", 0) as messages:
        async with MqttClient(broker.config(client_id="fast")) as fast:
            await asyncio.gather(*(fast.publish("b/1", b"%d" % number, 0) for number in range(20)))
        await until(lambda: slow.dropped >= 15)
        assert [int(message.payload) for message in await take(messages, 5)] == [0, 1, 2, 3, 4]
        assert (slow.dropped, slow.unread, slow.reconnects) == (15, 0, 0)


async def test_a_cancelled_publish_leaves_the_client_well(broker: Broker) -> None:
    async with MqttClient(broker.config(client_id="c", max_in_flight=4)) as client:
        for _ in range(5):
            tasks = [asyncio.create_task(client.publish("a", b"x")) for _ in range(20)]
            await asyncio.sleep(0)
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        await asyncio.gather(*(client.publish("a", b"x", timeout=5) for _ in range(20)))


async def test_a_client_that_is_closed_says_so(broker: Broker) -> None:
    client = MqttClient(broker.config(client_id="c"))
    async with client, client.subscribe("a") as messages:
        reading = asyncio.create_task(anext(messages, None))
        await asyncio.sleep(0)
        await client.close()
        async with asyncio.timeout(2):
            assert await reading is None
    with pytest.raises(UnavailableError, match="closed"):
        await client.publish("a", b"x")


async def test_a_broker_that_is_not_there_is_unavailable(free_port: int) -> None:
    with pytest.raises(UnavailableError) as caught:
        async with MqttClient(MqttConfig(f"mqtt://127.0.0.1:{free_port}", connect_timeout=0.5)):
            pass
    assert f"127.0.0.1:{free_port}" in str(caught.value)
    assert "refused" in str(caught.value)
