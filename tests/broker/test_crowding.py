"""The room for subscriptions at QoS 1: no device takes that of others, whatever it does with sessions and topics."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from hypothesis import given
from hypothesis import strategies as st

from skerry.broker import WireClient, api, end_crowding, ensure, log_plan, stream_state
from skerry.broker.crowding import beyond_share
from skerry.broker.streams import MIB
from tests.fixtures.nats import NatsServer
from tests.fixtures.raw_mqtt import leave_session


def consumer(name: str, topic: str, created: int, *, durable: bool = True) -> dict[str, Any]:
    """As the server lists it."""
    config = {"filter_subject": f"$MQTT.msgs.{topic}"} | ({"durable_name": name} if durable else {})
    return {"name": name, "created": f"2026-11-30T23:{created // 60:02}:{created % 60:02}.5Z", "config": config}


def test_the_newest_of_what_is_beyond_a_share_goes() -> None:
    listed = [consumer(f"m{at}", f"commands.mallory.{at}", 100 - at) for at in range(5)]
    listed += [consumer(f"b{at}", "commands.bob.>", at) for at in range(3)]
    assert beyond_share(listed, 3) == {"mallory": ["m1", "m0"]}
    assert beyond_share(listed, 5) == {}


def test_what_is_no_device_s_alone_is_nobody_s() -> None:
    """Thousands may listen to `events/#`; pipelines and relays read with consumers that are not durable."""
    listed = [consumer(f"e{at}", "events.>", at) for at in range(50)]
    listed += [consumer(f"r{at}", "commands.bob.>", at, durable=False) for at in range(50)]
    listed += [consumer(f"x{at}", "devices.a.commands.b", at) for at in range(50)]
    listed += [{"name": "odd"}, {"name": "odder", "config": {}}]
    assert beyond_share(listed, 3) == {}


@given(st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 3599)), max_size=60), st.integers(1, 20))
def test_each_keeps_its_share_and_the_oldest(asked: list[tuple[str, int]], share: int) -> None:
    listed = [consumer(f"n{at}", f"commands.{device}.{at}", created) for at, (device, created) in enumerate(asked)]
    ended = beyond_share(listed, share)
    for device in "abc":
        mine = {one["name"]: one["created"] for one, (whose, _) in zip(listed, asked, strict=True) if whose == device}
        gone = ended.get(device, [])
        kept = mine.keys() - set(gone)
        assert len(kept) == min(share, len(mine))
        assert set(gone) <= mine.keys()
        assert max((mine[name] for name in kept), default="") <= min((mine[name] for name in gone), default="~")


@pytest_asyncio.fixture
async def server(tmp_path: Path) -> AsyncIterator[NatsServer]:
    with NatsServer(tmp_path) as running:
        yield running


@pytest.mark.asyncio
async def test_many_sessions_of_one_device_leave_room_for_others(server: NatsServer) -> None:
    client: WireClient = await server.client()
    await ensure(client, log_plan(64 * MIB))
    assert await end_crowding(client) == {}
    assert await asyncio.to_thread(leave_session, server.mqtt_port, "bob", ["commands/bob/#", "events/#"]) == [1, 1]
    for number in range(4):
        topics = [f"commands/mallory/{number}/{at}" for at in range(40)]
        assert await asyncio.to_thread(leave_session, server.mqtt_port, f"m{number}", topics) == [1] * 40
    assert (await stream_state(client, "$MQTT_msgs"))["consumer_count"] == 164, "of `a/#` one for `a` too"
    assert await end_crowding(client, 100) == {"mallory": 60}
    assert (await stream_state(client, "$MQTT_msgs"))["consumer_count"] == 104
    assert await end_crowding(client, 100) == {}
    assert await end_crowding(client) == {}
    page = await api(client, "CONSUMER.LIST.$MQTT_msgs", {"offset": 0})
    kept = [one["config"]["filter_subject"] for one in page["consumers"]]
    assert {"$MQTT.msgs.commands.bob.>", "$MQTT.msgs.events.>"} <= set(kept)
    assert {name.split(".")[4] for name in kept if ".mallory." in name} == {"0", "1", "2"}
    client.close()
    await client.closed
