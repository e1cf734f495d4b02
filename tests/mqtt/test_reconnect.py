"""The client over deaths of the broker: what was acknowledged is there, what was not is sent again."""

import asyncio
import contextlib
import signal
from collections.abc import AsyncIterator, Awaitable

import pytest

from skerry.core.errors import UnavailableError
from skerry.mqtt import MqttClient, Subscription
from tests.fixtures.proxy import Proxy
from tests.mqtt.brokers import DURABLE, Broker, until

pytestmark = pytest.mark.asyncio


async def collect(messages: Subscription, found: list[int]) -> None:
    async for message in messages:
        found.append(int(message.payload))
        await message.ack()


@contextlib.asynccontextmanager
async def ended(work: Awaitable[None]) -> AsyncIterator[None]:
    task = asyncio.ensure_future(work)
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


@pytest.mark.parametrize("broker", ["nats"], indirect=True)
@pytest.mark.parametrize(("qos", "end"), [(1, signal.SIGKILL), (2, signal.SIGTERM)])
async def test_no_acknowledged_message_is_lost_over_deaths_of_the_broker(broker: Broker, qos: int, end: signal.Signals) -> None:
    """Killed, nats-server loses messages of QoS 2 that it has acknowledged (docs/mqtt.md)."""
    acknowledged: list[int] = []
    found: list[int] = []
    numbers = iter(range(100_000))
    stop = asyncio.Event()

    async def publish(client: MqttClient) -> None:
        while not stop.is_set():
            number = next(numbers)
            await client.publish("k/1", b"%d" % number, qos)
            acknowledged.append(number)

    async with (
        MqttClient(broker.config(client_id="sub")) as reader,
        reader.subscribe("k/#") as messages,
        ended(collect(messages, found)),
        MqttClient(broker.config(client_id="pub")) as writer,
    ):
        publishing = [asyncio.create_task(publish(writer)) for _ in range(30)]
        for _ in range(2):
            before = len(acknowledged)
            await until(lambda least=before + 300: len(acknowledged) > least)  # type: ignore[misc]  # mypy cannot infer it
            await broker.stop(end)
            await broker.start()
        before = len(acknowledged)
        await until(lambda: len(acknowledged) > before + 100)
        stop.set()
        await asyncio.wait_for(asyncio.gather(*publishing), 15)
        with contextlib.suppress(TimeoutError):
            await until(lambda: set(acknowledged) <= set(found), 40)
        assert set(acknowledged) - set(found) == set()
        assert writer.reconnects == reader.reconnects == 2
        assert sorted(set(acknowledged)) == list(range(len(acknowledged)))


async def test_publish_waits_for_the_broker_to_come_back(broker: Broker) -> None:
    async with MqttClient(broker.config(client_id="pub")) as client:
        await client.publish("a", b"x")
        await broker.stop()
        tasks = [asyncio.create_task(client.publish("a", b"x", qos)) for qos in (0, 1, 2) for _ in range(200)]
        await until(lambda: not client.connected)
        assert not all(task.done() for task in tasks)
        await broker.start()
        await asyncio.wait_for(asyncio.gather(*tasks), 20)
        assert client.connected
        assert client.reconnects == 1


async def test_a_publish_with_a_time_limit_raises_and_names_the_cause(broker: Broker) -> None:
    async with MqttClient(broker.config(client_id="pub", max_in_flight=2)) as client:
        await broker.stop()
        outcomes = await asyncio.gather(*(client.publish("a", b"x", timeout=0.3) for _ in range(6)), return_exceptions=True)
        assert [type(outcome) for outcome in outcomes] == [UnavailableError] * 6
        assert "within 0.3 s" in str(outcomes[0])
        assert broker.url in str(outcomes[0])
        await broker.start()
        await client.publish("a", b"x", timeout=10)


async def test_what_was_not_acknowledged_comes_again_to_the_next_client(broker: Broker) -> None:
    async with MqttClient(broker.config(client_id="sub")) as client, client.subscribe("m/#") as messages:
        await asyncio.gather(*(client.publish("m/1", b"%d" % number) for number in range(6)))
        first = [await anext(messages) for _ in range(4)]
        for message in first[:2]:
            await message.ack()
    async with MqttClient(broker.config(client_id="sub")) as client:
        await asyncio.sleep(0.2)  # they come before anybody has subscribed
        async with client.subscribe("m/#") as messages, asyncio.timeout(10):
            again: set[int] = set()
            while len(again) < 4:
                message = await anext(messages)
                await message.ack()
                again.add(int(message.payload))
    assert again == {2, 3, 4, 5}


async def test_what_comes_while_the_client_is_away_is_kept(broker: Broker) -> None:
    async with MqttClient(broker.config(client_id="sub")) as client, client.subscribe("m/#"):
        pass
    async with MqttClient(broker.config(client_id="pub")) as writer:
        await writer.publish("m/1", b"7")
    async with (
        MqttClient(broker.config(client_id="sub")) as client,
        client.subscribe("m/#") as messages,
        asyncio.timeout(10),
    ):
        message = await anext(messages)
        assert message.payload == b"7"
        await message.ack()
        await messages.unsubscribe()
        await client.publish("m/1", b"8")
    async with MqttClient(broker.config(client_id="sub")) as client, client.subscribe("m/#") as messages:
        await client.publish("m/1", b"9")
        async with asyncio.timeout(10):
            assert (await anext(messages)).payload == b"9"


@pytest.mark.parametrize("broker", DURABLE, indirect=True)
async def test_an_unacknowledged_message_comes_again_after_a_reconnect(broker: Broker) -> None:
    async with MqttClient(broker.config(client_id="sub")) as client, client.subscribe("m/#") as messages:
        await client.publish("m/1", b"1")
        async with asyncio.timeout(10):
            old = await anext(messages)
            # mosquitto does not know its sessions after a kill
            await broker.stop(signal.SIGKILL if broker.kind == "nats" else signal.SIGTERM)
            await until(lambda: not client.connected)
            await broker.start()
            again = await anext(messages)
        assert again.payload == b"1"
        # nats-server writes down a little later what it has delivered; killed before, it does not know that it sends it again
        assert again.duplicate or broker.kind == "nats"
        await old.ack()  # of a connection that is gone: does nothing
        await again.ack()
    async with MqttClient(broker.config(client_id="sub")) as client, client.subscribe("m/#") as messages:
        await client.publish("m/1", b"2")
        async with asyncio.timeout(10):
            assert (await anext(messages)).payload == b"2"


@pytest.mark.parametrize("broker", DURABLE, indirect=True)
async def test_what_has_come_and_was_not_read_outlives_the_connection(broker: Broker) -> None:
    """Killed, mosquitto keeps the session, and sends nothing of it again; what comes with its packet id again is the same."""
    numbers = list(range(20))
    async with (
        MqttClient(broker.config(client_id="sub")) as client,
        client.subscribe("m/#") as messages,
        client.subscribe("last") as last,
        asyncio.timeout(60),
    ):
        async with MqttClient(broker.config(client_id="pub")) as writer:
            for number in numbers:
                await writer.publish("m/1", b"%d" % number)
            await writer.publish("last", b"")
        await (await anext(last)).ack()  # so all the others have come too
        for signum in (signal.SIGKILL, signal.SIGTERM):
            reconnects = client.reconnects
            await broker.stop(signum)
            await broker.start()
            await until(lambda reconnects=reconnects: client.connected and client.reconnects > reconnects, 30)  # type: ignore[misc]  # mypy cannot infer it
        found: list[int] = []
        while len(set(found)) < len(numbers):
            message = await anext(messages)
            found.append(int(message.payload))
            await message.ack()
        assert list(dict.fromkeys(found)) == numbers


@pytest.mark.parametrize("broker", ["nats"], indirect=True)
async def test_what_the_broker_sends_again_while_it_waits_to_be_read_is_one_message(broker: Broker) -> None:
    numbers = list(range(5))
    async with (
        MqttClient(broker.config(client_id="sub")) as client,
        client.subscribe("m/#") as messages,
        MqttClient(broker.config(client_id="pub")) as writer,
        asyncio.timeout(60),
    ):
        for number in numbers:
            await writer.publish("m/1", b"%d" % number)
        client.renew()
        await until(lambda: client.connected and client.reconnects == 1, 30)
        await asyncio.sleep(2.5)  # nats-server sends again what is not acknowledged within two seconds
        await writer.publish("m/1", b"99")
        found: list[int] = []
        while not found or found[-1] != 99:
            message = await anext(messages)
            found.append(int(message.payload))
            await message.ack()
        assert found == [*numbers, 99]
    async with MqttClient(broker.config(client_id="sub")) as client, client.subscribe("m/#") as messages:
        await client.publish("m/1", b"100")
        async with asyncio.timeout(30):
            assert (await anext(messages)).payload == b"100"  # all before was acknowledged


async def test_a_clean_session_subscribes_again(broker: Broker) -> None:
    async with MqttClient(broker.config()) as client, client.subscribe("m/#") as messages:
        await broker.stop()
        await until(lambda: not client.connected)
        await broker.start()
        await until(lambda: client.connected)
        await client.publish("m/1", b"1", timeout=10)
        async with asyncio.timeout(10):
            assert (await anext(messages)).payload == b"1"


async def test_closing_does_not_wait_for_a_broker_that_is_gone(broker: Broker) -> None:
    loop = asyncio.get_running_loop()
    async with MqttClient(broker.config(client_id="c")) as client:
        await client.publish("a", b"x")
        await broker.stop()
        waiting = asyncio.create_task(client.publish("a", b"x"))
        await until(lambda: not client.connected)
        began = loop.time()
    assert loop.time() - began < 3
    with pytest.raises(UnavailableError, match="closed"):
        await waiting


@pytest.mark.parametrize("broker", ["nats"], indirect=True)
async def test_a_connection_that_went_silent_is_given_up_in_one_and_a_half_keep_alives(broker: Broker) -> None:
    """The network swallows everything and tells nobody; the kernel holds the connection for a good one."""
    loop = asyncio.get_running_loop()
    async with Proxy(broker.port) as proxy:
        config = broker.config(broker_url=f"mqtt://127.0.0.1:{proxy.port}", client_id="c", keep_alive=4)
        async with MqttClient(config) as client:
            await client.publish("a", b"x")
            proxy.swallowed.set()
            began = loop.time()
            waiting = asyncio.create_task(client.publish("a", b"y"))
            await until(lambda: not client.connected, 30)
            assert loop.time() - began > 2
            proxy.swallowed.clear()
            await asyncio.wait_for(waiting, 30)
            assert client.reconnects == 1
