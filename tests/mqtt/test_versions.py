"""MQTT 5 where the broker has it, 3.1.1 elsewhere, and what only 5 can tell."""

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest

from skerry.core.errors import RejectedError
from skerry.mqtt import MqttClient
from tests.mqtt.brokers import Broker, until

pytestmark = pytest.mark.asyncio
SPOKEN = {"nats": "3.1.1", "mosquitto": "5", "aedes": "3.1.1"}


async def test_the_newest_that_the_broker_speaks(broker: Broker) -> None:
    async with MqttClient(broker.config(client_id="c")) as client, client.subscribe("a/#") as messages:
        assert client.version == SPOKEN[broker.kind]
        await client.publish("a/b", b"x")
        message = await anext(messages)
        await message.ack()
        assert message.payload == b"x"
        assert client.reconnects == 0


@pytest.mark.parametrize("broker", ["nats"], indirect=True)
async def test_a_version_that_was_asked_for_is_not_another(broker: Broker) -> None:
    with pytest.raises(RejectedError, match='does not speak this version of MQTT; set version = "auto"'):
        async with MqttClient(broker.config(client_id="c", version="5")):
            pass


@pytest.mark.parametrize("broker", ["mosquitto"], indirect=True)
async def test_the_older_one_where_it_was_asked_for(broker: Broker) -> None:
    async with MqttClient(broker.config(client_id="c", version="3.1.1")) as client:
        await client.publish("a", b"x")
        assert client.version == "3.1.1"


async def test_a_message_that_is_not_permitted_is_an_error_in_5(tmp_path: Path, free_ports: Callable[[int], list[int]]) -> None:
    broker = Broker("mosquitto", tmp_path, free_ports(2), "")
    (tmp_path / "acl").write_text("topic readwrite open/#\n")
    config = tmp_path / "broker.conf"
    # with no bound on its queue, mosquitto 2.0.11 ends the connection of whom it refuses a message
    config.write_text(config.read_text().replace("max_queued_messages 0\n", f"acl_file {tmp_path / 'acl'}\n"))
    await broker.start()
    try:
        async with MqttClient(broker.config(client_id="c")) as client:
            await client.publish("open/a", b"x")
            for qos in (1, 2):
                with pytest.raises(RejectedError, match="does not take the message: not authorized; check what it permits"):
                    await client.publish("closed/a", b"x", qos, timeout=30)
            refused = [client.publish("closed/a", b"x", 2, timeout=30) for _ in range(40)]
            async with asyncio.timeout(30):  # more than may be under way at once: a refused one makes place
                found = await asyncio.gather(*refused, client.publish("open/a", b"x", 2), return_exceptions=True)
            assert [type(each) for each in found] == [RejectedError] * 40 + [type(None)]
            assert client.reconnects == 0
    finally:
        await broker.stop()


@pytest.mark.parametrize("broker", ["mosquitto"], indirect=True)
async def test_a_session_outlives_the_connection_in_5_too(broker: Broker) -> None:
    async with MqttClient(broker.config(client_id="c")) as client, client.subscribe("a/#"):
        assert client.version == "5"
    async with MqttClient(broker.config(client_id="other")) as other:
        await other.publish("a/b", b"meanwhile")
    async with MqttClient(broker.config(client_id="c")) as client, client.subscribe("a/#") as messages:
        message = await anext(messages)
        await message.ack()
        assert message.payload == b"meanwhile"


@pytest.mark.parametrize("broker", ["mosquitto"], indirect=True)
async def test_the_broker_says_how_much_may_be_under_way(broker: Broker) -> None:
    """Mosquitto's receive maximum is 50 in this configuration; a client that sends more at once is disconnected (MQTT 5, 4.9)."""
    async with MqttClient(broker.config(client_id="c", max_in_flight=500)) as client:
        async with asyncio.timeout(60):
            await asyncio.gather(*(client.publish("a", b"%d" % number) for number in range(2000)))
        assert client.reconnects == 0
        await until(lambda: client.connected)
