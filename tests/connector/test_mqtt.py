"""The bridge to someone else's broker: a real mosquitto and a real nats-server, killed and started again."""

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from skerry.connector import parse_connectors
from skerry.connector.kinds import mqtt as mqtt_kind
from skerry.connector.kinds.mqtt import covers, widest
from skerry.core.errors import ConfigError, UnavailableError
from skerry.mqtt import MqttClient
from tests.connector.contract import check_sink, check_source, opened, outgoing
from tests.connector.rig import begun, payloads, prepared, put_event, working
from tests.fixtures.nats import NatsServer, put, until
from tests.mqtt.brokers import Broker

pytestmark = pytest.mark.asyncio


@pytest_asyncio.fixture
async def outside(tmp_path: Path, free_ports: Callable[[int], list[int]]) -> AsyncIterator[Broker]:
    """Somebody else's mosquitto."""
    folder = tmp_path / "outside"
    folder.mkdir()
    made = Broker("mosquitto", folder, free_ports(2), "")
    await made.start()
    yield made
    await made.stop()


def reads(broker: Broker, **more: Any) -> dict[str, Any]:
    topics = [{"from": "zigbee2mqtt/+", "to": "devices/{2}/state"}]
    return {"name": "hall", "kind": "mqtt", "direction": "in", "url": broker.url, "topics": topics, **more}


def writes(broker: Broker, **more: Any) -> dict[str, Any]:
    return {"name": "up", "kind": "mqtt", "direction": "out", "url": broker.url, **more}


class Listener:
    """All that comes on `#` of a broker."""

    def __init__(self, broker: Broker, client_id: str = "listener") -> None:
        self._config = broker.config(client_id=client_id, clean_session=False)
        self.came: list[tuple[str, bytes]] = []

    async def __aenter__(self) -> "Listener":
        self._client = await MqttClient(self._config).__aenter__()
        ready = asyncio.Event()
        self._listening = asyncio.create_task(self._listen(ready))
        await ready.wait()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._client.close()
        await self._listening

    async def _listen(self, ready: asyncio.Event) -> None:
        async with self._client.subscribe("#", 1) as messages:
            ready.set()
            async for message in messages:
                self.came.append((message.topic, message.payload))
                await message.ack()

    def payloads(self) -> list[bytes]:
        return [payload for _, payload in self.came]


async def test_a_source_by_the_contract(outside: Broker, tmp_path: Path) -> None:
    async with MqttClient(outside.config()) as client:

        async def say(number: int) -> None:
            await client.publish("zigbee2mqtt/lamp", b'{"n":%d}' % number, 1)

        found = await check_source(reads(outside), tmp_path, say)
    assert {each.topic for each in found} == {"devices/lamp/state"}


async def test_a_sink_by_the_contract(outside: Broker, tmp_path: Path) -> None:
    async with Listener(outside) as listener:

        async def kill() -> None:
            await outside.stop()

        await check_sink(writes(outside), tmp_path, listener.payloads, kill, outside.start)
        assert listener.came[0][0] == "skerry/rock/p/d"


async def test_what_is_acknowledged_outside_is_in_the_log_whoever_dies(outside: Broker, server: NatsServer, tmp_path: Path) -> None:
    client = await prepared(server)
    count = 600
    async with working([reads(outside)], server, tmp_path) as engine:
        await until(lambda: not engine.report().connectors["hall"].trouble, 20)
        async with MqttClient(outside.config(client_id="devices", max_in_flight=20)) as devices:
            # subscribed before the first is published: what comes before is nobody's
            async def first() -> bool:
                await devices.publish("zigbee2mqtt/lamp", b"first", 1)
                return b"first" in await payloads(client)

            await until(first, 30)
            for number in range(count):
                if number == 200:
                    await outside.stop()
                    await outside.start()
                if number == 400:
                    server.kill()
                    server.start()
                await devices.publish("zigbee2mqtt/lamp", b"%d" % number, 1)
        client = await server.client()

        async def all_there() -> bool:
            return {int(each) for each in await payloads(client, "devices/lamp/state") if each != b"first"} == set(range(count))

        await until(all_there, 60)
    client.close()


async def test_a_broker_that_is_not_there_is_said_and_waited_for(
    server: NatsServer, tmp_path: Path, free_ports: Callable[[int], list[int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mqtt_kind, "CONNECT_S", 1.0)
    client = await prepared(server)
    (tmp_path / "late").mkdir()
    late = Broker("mosquitto", tmp_path / "late", free_ports(2), "")
    with pytest.raises(UnavailableError, match=f"{late.port}"):
        await opened({**reads(late)}, tmp_path).test()
    async with working([reads(late), writes(late)], server, tmp_path) as engine:
        await until(lambda: f"{late.port}" in engine.report().connectors["hall"].trouble, 40)
        payload = await put_event(client, 1)
        await until(lambda: f"{late.port}" in engine.report().connectors["up"].trouble, 40)
        await late.start()
        async with Listener(late) as listener, MqttClient(late.config()) as devices:
            await until(lambda: payload in listener.payloads(), 60)

            async def brought() -> bool:
                await devices.publish("zigbee2mqtt/lamp", b"1", 1)
                return b"1" in await payloads(client)

            await until(brought, 60)
            await until(lambda: not any(each.trouble for each in engine.report().connectors.values()), 20)
    await late.stop()
    client.close()


async def test_messages_of_the_log_go_out_but_not_to_where_they_came_from(
    outside: Broker, server: NatsServer, tmp_path: Path
) -> None:
    client = await prepared(server)
    out = writes(outside, topics=[{"from": "devices/#", "to": "plant/{rest}"}])
    async with working([reads(outside), out], server, tmp_path) as engine, Listener(outside) as listener:
        await until(lambda: engine.report().connectors["up"].cursor not in (None, -1), 20)

        async def brought() -> bool:
            await _publish(outside, "zigbee2mqtt/lamp", b"from-there")
            return b"from-there" in await payloads(client)

        await until(brought, 30)
        await put(client, "$MQTT.msgs.devices.pump.v", b"own")
        await put(client, "skerry.q0.devices.pump.v", b"own-qos0")
        await until(lambda: {b"own", b"own-qos0"} <= set(listener.payloads()), 30)
        report = engine.report().connectors["up"]
        assert ("plant/pump/v", b"own") in listener.came
        assert not any(topic.startswith("plant/lamp") for topic, _ in listener.came)
        assert report.refused["came from there"] >= 1
        end = int((await client.request(b"$JS.API.STREAM.INFO.$MQTT_msgs", b""))[3].split(b'"last_seq":')[1].split(b",")[0])
        await until(lambda: engine.report().connectors["up"].cursor == end, 20)
    client.close()


async def _publish(broker: Broker, topic: str, payload: bytes) -> None:
    async with MqttClient(broker.config()) as client:
        await client.publish(topic, payload, 1)


async def test_only_events_of_the_pipelines_named_and_none_twice_after_a_restart(
    outside: Broker, server: NatsServer, tmp_path: Path
) -> None:
    client = await prepared(server)
    table = writes(outside, pipelines=["p"], events="{site}/{pipeline}/{key}/{state}")
    async with Listener(outside) as listener:
        for begin in (1, 10):
            async with working([table], server, tmp_path) as engine:
                await until(lambda: begun(client, "up"), 20)
                await put_event(client, begin, "other")
                wanted = await put_event(client, begin + 1, "p", "a b")
                await until(lambda wanted=wanted: wanted in listener.payloads(), 30)
                await until(lambda engine=engine: engine.report().connectors["up"].waiting == 0, 20)
                await asyncio.sleep(0.6)  # the cursor is stored every quarter of a second
        assert [topic for topic, _ in listener.came] == ["sea/p/a_b/info"] * 2
    client.close()


async def test_secrets_are_in_files(outside: Broker, tmp_path: Path) -> None:
    source = opened(reads(outside, username="ann", password_file="pw"), tmp_path)
    with pytest.raises(ConfigError, match="pw: cannot be read: No such file or directory; name the file"):
        await source.test()
    (tmp_path / "pw").write_text("\n")
    with pytest.raises(ConfigError, match="is empty"):
        await source.test()
    (tmp_path / "pw").write_text("secret\n")
    assert "connected" in await source.test()


async def test_overlapping_filters_give_one_message(outside: Broker, tmp_path: Path) -> None:
    topics = [{"from": "a/+", "to": "devices/{2}/one"}, {"from": "a/#", "to": "devices/{2}/two"}]
    source = opened(reads(outside, topics=topics), tmp_path)
    queue = source.read(b"")
    reading = asyncio.ensure_future(anext(queue))
    await asyncio.wait([reading], timeout=1.0)
    await _publish(outside, "a/b", b"1")
    await _publish(outside, "a/b/c", b"2")
    found = list((await asyncio.wait_for(reading, 30)).messages)
    while len(found) < 2:
        found += (await asyncio.wait_for(anext(queue), 30)).messages
    assert sorted((each.topic, each.payload) for each in found) == [("devices/b/one", b"1"), ("devices/b/two", b"2")]
    await queue.aclose()


async def test_what_another_filter_covers_is_not_subscribed_to() -> None:
    assert widest(["a/+", "a/#", "b", "b", "+/c"]) == ["a/#", "b", "+/c"]
    assert widest(["a/+", "a/b/#", "a/b"]) == ["a/+", "a/b/#"]
    assert not covers("a/+", "a/#")


async def test_where_an_event_goes() -> None:
    table = {"name": "up", "kind": "mqtt", "direction": "out", "url": "mqtt://b"}
    assert parse_connectors([table], "c")[0].direction == "out"
    sink = opened(table, Path(), twins=("hall",))
    assert sink.topic_of(outgoing(1)) == "skerry/rock/p/d"
    assert sink.topic_of(outgoing(1, via="")) == "skerry/rock/p/d"
