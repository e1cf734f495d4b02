"""Entities for Home Assistant on a real mosquitto: they appear, follow the events, and go."""

import json
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
import pytest_asyncio

from skerry.connector import Outgoing, parse_connector
from skerry.core.errors import ConfigError
from tests.connector.contract import check_sink, opened, outgoing
from tests.connector.test_mqtt import Listener
from tests.fixtures.nats import until
from tests.mqtt.brokers import Broker

pytestmark = pytest.mark.asyncio


@pytest_asyncio.fixture
async def broker(tmp_path: Path, free_ports: Callable[[int], list[int]]) -> AsyncIterator[Broker]:
    folder = tmp_path / "broker"
    folder.mkdir()
    made = Broker("mosquitto", folder, free_ports(2), "")
    await made.start()
    yield made
    await made.stop()


def home(broker: Broker, **more: Any) -> dict[str, Any]:
    return {"name": "home", "kind": "homeassistant", "url": broker.url, **more}


def event(number: int, pipeline: str = "p", key: str = "d") -> Outgoing:
    return msgspec.structs.replace(outgoing(number), pipeline=pipeline, key=key)


async def test_a_sink_by_the_contract(broker: Broker, tmp_path: Path) -> None:
    async with Listener(broker) as listener:

        async def kill() -> None:
            await broker.stop()

        await check_sink(home(broker), tmp_path, listener.payloads, kill, broker.start)


async def test_entities_come_before_their_first_state_and_are_kept(broker: Broker, tmp_path: Path) -> None:
    sink = opened(home(broker), tmp_path)
    async with Listener(broker) as listener:
        await sink.send([event(1), event(2), event(3, key="a b")])
        await until(lambda: len(listener.came) == 11, 20)
        topics = [topic for topic, _ in listener.came]
        assert all(topic.startswith("homeassistant/") for topic in topics[:4])
        assert topics.count("skerry_rock/p/d/event") == 2
        assert "skerry_rock/p/a_20b/event" in topics
    # whoever subscribes later finds it all
    async with Listener(broker, client_id="later") as late:
        await until(lambda: len(late.came) == 10, 20)
        found = dict(late.came)
    alarm = json.loads(found["homeassistant/binary_sensor/skerry_rock/p__d__alarm/config"])
    assert alarm["state_topic"] == alarm["json_attributes_topic"] == "skerry_rock/p/d/event"
    assert (alarm["device_class"], alarm["unique_id"]) == ("problem", "skerry_rock_p__d__alarm")
    assert alarm["device"]["identifiers"] == ["skerry_rock_p__d"]
    assert found["skerry_rock/p/d/event"] == event(2).payload
    assert len({json.loads(each)["unique_id"] for topic, each in found.items() if topic.endswith("/config")}) == 8
    await sink.close()


async def test_what_is_no_longer_shown_is_removed(broker: Broker, tmp_path: Path) -> None:
    sink = opened(home(broker), tmp_path)
    await sink.send([event(1, "p"), event(2, "pq")])
    await sink.close()

    async def kept(client_id: str) -> set[str]:
        async with Listener(broker, client_id=client_id) as listener:
            await until(lambda: any(topic.endswith("/event") for topic, _ in listener.came), 20)
            return {topic.split("/")[3] for topic, payload in listener.came if topic.endswith("/config") and payload}

    assert {name.partition("__")[0] for name in await kept("one")} == {"p", "pq"}
    sink = opened(home(broker, pipelines=["pq"]), tmp_path)
    await sink.send([event(3, "pq")])
    await sink.close()
    assert {name.partition("__")[0] for name in await kept("two")} == {"pq"}
    sink = opened(home(broker, remove=True), tmp_path)
    await sink.send([event(4, "pq")])
    assert sink.dropped == {"entities are removed": 1}
    await sink.close()
    assert await kept("three") == set()


async def test_what_is_wrong_is_named(broker: Broker) -> None:
    with pytest.raises(ConfigError, match=r"c.prefix: 'a/#' is no topic"):
        parse_connector(home(broker, prefix="a/#"), "c")
    with pytest.raises(ConfigError, match="homeassistant does not go in"):
        parse_connector(home(broker, direction="in"), "c")
