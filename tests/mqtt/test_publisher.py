"""The lean publisher against real brokers: what it says is acknowledged is there, and a lost connection is said."""

import asyncio
import tracemalloc

import pytest

from skerry.core.errors import RejectedError, UnavailableError
from skerry.mqtt import MqttClient, MqttConfig, Publisher
from skerry.mqtt import publisher as module
from skerry.mqtt.publisher import IN_FLIGHT, _length
from tests.mqtt.brokers import Broker


async def connect(broker: Broker, password: str = "any") -> Publisher:
    return await Publisher.connect("127.0.0.1", broker.port, "node", "ann", password)


@pytest.mark.parametrize(("size", "field"), [(0, b"\x00"), (127, b"\x7f"), (128, b"\x80\x01"), (16_384, b"\x80\x80\x01")])
def test_the_length_field_is_that_of_the_standard(size: int, field: bytes) -> None:
    assert _length(size) == field


@pytest.mark.asyncio
async def test_what_is_published_arrives_once_and_in_order(broker: Broker) -> None:
    config = MqttConfig(broker_url=broker.url, client_id="reader")
    async with MqttClient(config) as reader, reader.subscribe("t/#", qos=1) as messages:
        publisher = await connect(broker)
        payloads = [f"{at}".encode() + b"x" * (at % 300) for at in range(500)]
        await asyncio.gather(*[publisher.publish("t/a", payload) for payload in payloads])
        got = []
        async with asyncio.timeout(10):
            async for message in messages:
                got.append(message.payload)
                await message.ack()
                if len(got) == len(payloads):
                    break
        publisher.close()
    assert got == payloads


@pytest.mark.asyncio
async def test_a_retained_message_and_quality_0(broker: Broker) -> None:
    publisher = await connect(broker)
    await publisher.publish("t/kept", b"kept", retain=True)
    await publisher.publish("t/gone", b"gone", qos=0)
    config = MqttConfig(broker_url=broker.url, client_id="late-reader")
    async with MqttClient(config) as reader, reader.subscribe("t/#", qos=1) as messages, asyncio.timeout(5):
        first = await anext(aiter(messages))
        await first.ack()
    publisher.close()
    assert (first.topic, first.payload) == ("t/kept", b"kept")


@pytest.mark.asyncio
async def test_more_than_the_bound_waits_and_none_is_lost(broker: Broker) -> None:
    publisher = await connect(broker)
    await asyncio.gather(*[publisher.publish("t/many", b"x") for _ in range(IN_FLIGHT + 500)])
    assert not publisher._waiting
    publisher.close()


@pytest.mark.asyncio
async def test_what_was_published_leaves_nothing_behind(broker: Broker) -> None:
    publisher = await connect(broker)
    await asyncio.gather(*[publisher.publish("t/many", b"x") for _ in range(IN_FLIGHT)])
    tracemalloc.start()
    try:
        for _ in range(3):
            await asyncio.gather(*[publisher.publish("t/many", b"x") for _ in range(IN_FLIGHT)])
        kept = tracemalloc.take_snapshot().filter_traces([tracemalloc.Filter(True, module.__file__)]).statistics("filename")
    finally:
        tracemalloc.stop()
    publisher.close()
    assert sum(each.size for each in kept) < 60_000, "3,000 numbers are 96,000 bytes; the table of what is under way is 37,000"


@pytest.mark.asyncio
async def test_the_packet_ids_begin_anew_after_the_last_and_pass_over_what_is_under_way(broker: Broker) -> None:
    publisher = await connect(broker)
    publisher._last_id = 65_534
    under_way = publisher._waiting[1] = asyncio.get_running_loop().create_future()
    await asyncio.gather(*[publisher.publish("t/a", b"x") for _ in range(2)])
    assert publisher._last_id == 2, "65535, and then 2, since 1 is under way"
    del publisher._waiting[1]
    under_way.cancel()
    publisher.close()


@pytest.mark.asyncio
async def test_a_killed_broker_is_told_to_all_who_wait(broker: Broker) -> None:
    publisher = await connect(broker)
    await publisher.publish("t/a", b"1")
    await broker.stop()
    results = await asyncio.gather(*[publisher.publish("t/a", b"2") for _ in range(20)], return_exceptions=True)
    assert all(isinstance(result, UnavailableError) for result in results)
    assert publisher.closed
    with pytest.raises(UnavailableError):
        await publisher.publish("t/a", b"3", qos=0)
    with pytest.raises(UnavailableError, match="takes no MQTT connection"):
        await connect(broker)


@pytest.mark.asyncio
async def test_a_wrong_password_is_refused(guarded_broker: Broker) -> None:
    with pytest.raises(RejectedError, match="refuses the node's own"):
        await connect(guarded_broker, "wrong")
    publisher = await connect(guarded_broker, "secret")
    await publisher.publish("t/a", b"1")
    publisher.close()


@pytest.mark.asyncio
async def test_a_broker_that_does_not_answer_a_ping_is_given_up(broker: Broker) -> None:
    publisher = await connect(broker)
    assert not publisher._answered
    await asyncio.sleep(0.2)
    assert publisher._answered, "a real broker answers"
    publisher._answered = False
    publisher._keep_alive()
    await asyncio.sleep(0.1)
    assert publisher.closed
