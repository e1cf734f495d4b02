"""Sparkplug B: payloads as the protobuf library writes them, aliases, gaps, deaths, and a real broker."""

import asyncio
import json
import math
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from hypothesis import given
from hypothesis import strategies as st

from skerry.connector import parse_connector
from skerry.connector.sparkplug.nodes import ASK_AGAIN_S, Nodes, Outcome, parse_topic
from skerry.connector.sparkplug.payload import BadPayload, decode, rebirth
from skerry.core.errors import ConfigError
from skerry.mqtt import MqttClient
from tests.connector.rig import payloads, prepared, working
from tests.connector.tahu import Payload, written
from tests.fixtures.nats import NatsServer, until
from tests.mqtt.brokers import Broker

NODE, DEVICE = "spBv1.0/g/{}/e", "spBv1.0/g/{}/e/d"
BD = {"name": "bdSeq", "datatype": 8, "long_value": 3}
TEMPERATURE = {"name": "Temperature", "alias": 7, "datatype": 9, "float_value": 21.5}
BIRTH = written(0, BD, {"name": "Node Control/Rebirth", "datatype": 11, "boolean_value": False}, TEMPERATURE)


def outcomes(*messages: tuple[str, bytes], now: float = 100.0) -> list[Outcome]:
    nodes = Nodes()
    return [nodes.take(topic, data, now) for topic, data in messages]


@pytest.mark.parametrize(
    ("datatype", "field", "raw", "value"),
    [
        (1, "int_value", 0xFFFFFFFF, -1), (1, "int_value", 0xFF, -1), (2, "int_value", 0x8000, -32768),
        (3, "int_value", 1 << 31, -(1 << 31)),
        (4, "long_value", (1 << 64) - 5, -5), (5, "int_value", 255, 255), (7, "int_value", (1 << 32) - 1, (1 << 32) - 1),
        (8, "long_value", (1 << 64) - 1, (1 << 64) - 1), (9, "float_value", 0.5, 0.5), (10, "double_value", math.pi, math.pi),
        (11, "boolean_value", True, True), (11, "boolean_value", False, False), (12, "string_value", "on — ü", "on — ü"),
        (13, "long_value", 1_764_000_000_000, 1_764_000_000_000), (17, "bytes_value", b"x", None), (16, "string_value", "x", None),
        (12, "int_value", 3, None), (3, "string_value", "x", None),
    ],
)  # fmt: skip
def test_each_data_type(datatype: int, field: str, raw: Any, value: Any) -> None:
    payload = decode(written(4, {"name": "m", "datatype": datatype, field: raw}, uuid="u", body=b"\0\1"))
    assert (payload.seq, payload.timestamp) == (4, 1000)
    found = payload.metrics[0].value(0)
    assert found == value
    assert type(found) is type(value)
    assert decode(written(4, {"name": "m", "datatype": datatype, "is_null": True, field: raw})).metrics[0].value(0) is None


@given(st.binary(max_size=60))
def test_whatever_comes_is_a_payload_or_is_refused(data: bytes) -> None:
    try:
        decode(data)
    except BadPayload:
        assert Nodes().take(NODE.format("NBIRTH"), data, 0.0).refused == {"no Sparkplug payload": 1}


@given(st.integers(0, len(BIRTH) - 1))
def test_a_payload_cut_short_is_no_other_one(size: int) -> None:
    try:
        found = decode(BIRTH[:size])
    except BadPayload:
        return
    assert len(found.metrics) <= 3


def test_the_request_is_read_by_the_library() -> None:
    payload = Payload.FromString(rebirth(1_764_000_000_123))
    metric = payload.metrics[0]
    assert (payload.timestamp, metric.name, metric.datatype, metric.boolean_value) == (
        1_764_000_000_123, "Node Control/Rebirth", 11, True,
    )  # fmt: skip


def test_names_come_of_births_and_values_of_their_times() -> None:
    late = {"alias": 7, "float_value": 20.0, "timestamp": 900}
    born, data, device, more = outcomes(
        (NODE.format("NBIRTH"), BIRTH),
        (NODE.format("NDATA"), written(1, {"alias": 7, "float_value": 22.5}, late)),
        (DEVICE.format("DBIRTH"), written(2, {"name": "Speed", "alias": 9, "datatype": 3, "int_value": (1 << 32) - 2})),
        (DEVICE.format("DDATA"), written(3, {"alias": 9, "int_value": 4}, {"name": "Speed", "int_value": 5, "timestamp": 1001})),
    )
    assert [(row.timestamp, row.values) for row in born.rows] == [(1000, {"Temperature": 21.5})]
    assert [(row.timestamp, row.values) for row in data.rows] == [(1000, {"Temperature": 22.5}), (900, {"Temperature": 20.0})]
    assert [(row.device, row.values) for row in device.rows] == [("d", {"Speed": -2})]
    assert [(row.timestamp, row.values) for row in more.rows] == [(1000, {"Speed": 4}), (1001, {"Speed": 5})]
    assert (born.online, device.online) == ([("g", "e", "", True)], [("g", "e", "d", True)])
    assert not any(each.ask or each.refused for each in (born, data, device, more))


def test_a_gap_and_an_unknown_alias_ask_for_a_birth_now_and_then() -> None:
    nodes = Nodes()
    early = nodes.take(NODE.format("NDATA"), written(5, {"alias": 7, "float_value": 1.0}), 0.0)
    assert (early.refused, early.ask, early.rows) == ({"no birth yet": 1}, True, [])
    assert not nodes.take(NODE.format("NDATA"), written(6, {"alias": 7, "float_value": 1.0}), ASK_AGAIN_S - 1).ask
    nodes.take(NODE.format("NBIRTH"), BIRTH, 12.0)
    gap = nodes.take(NODE.format("NDATA"), written(2, {"alias": 7, "float_value": 1.0}), 30.0)
    assert (gap.refused, gap.ask, gap.rows[0].values) == ({"gap in the sequence": 1}, True, {"Temperature": 1.0})
    unknown = nodes.take(NODE.format("NDATA"), written(3, {"alias": 8, "float_value": 1.0}), 50.0)
    assert (unknown.refused, unknown.ask, unknown.rows) == ({"unknown alias": 1}, True, [])


def test_sequence_numbers_go_round() -> None:
    nodes = Nodes()
    nodes.take(NODE.format("NBIRTH"), BIRTH, 0.0)
    for number in range(1, 600):
        found = nodes.take(NODE.format("NDATA"), written(number % 256, {"alias": 7, "float_value": 1.0}), 0.0)
        assert not found.refused, number


def test_deaths() -> None:
    _born, _device, other, mine, after = outcomes(
        (NODE.format("NBIRTH"), BIRTH),
        (DEVICE.format("DBIRTH"), written(1, TEMPERATURE)),
        (NODE.format("NDEATH"), written(None, {**BD, "long_value": 2})),
        (NODE.format("NDEATH"), written(None, BD)),
        (DEVICE.format("DDATA"), written(2, TEMPERATURE)),
    )
    assert other.online == []
    assert mine.online == [("g", "e", "", False), ("g", "e", "d", False)]
    assert after.refused == {"no birth yet": 1}
    *_, died = outcomes(
        (NODE.format("NBIRTH"), BIRTH), (DEVICE.format("DBIRTH"), written(1, TEMPERATURE)), (DEVICE.format("DDEATH"), written(2)),
    )  # fmt: skip
    assert (died.online, died.rows) == ([("g", "e", "d", False)], [])


def test_topics() -> None:
    assert parse_topic("spBv1.0/g/DDATA/e/d") == ("g", "DDATA", "e", "d")
    for topic in ("spBv1.0/g/NDATA/e/d", "spBv1.0/g/DDATA/e", "spAv1.0/g/NDATA/e", "spBv1.0/g/NCMD/e", "spBv1.0/STATE/h"):
        assert parse_topic(topic) is None
    assert outcomes(("a/b", b""))[0].refused == {"no Sparkplug topic": 1}


def test_what_is_wrong_is_named() -> None:
    base = {"name": "s", "kind": "sparkplug", "url": "mqtt://b"}
    for change, complaint in (({"groups": []}, "say which groups"), ({"topic": "a/{devic}"}, r"\{devic\} is not known")):
        with pytest.raises(ConfigError, match=complaint):
            parse_connector({**base, **change}, "c")


@pytest_asyncio.fixture
async def broker(tmp_path: Path, free_ports: Callable[[int], list[int]]) -> AsyncIterator[Broker]:
    folder = tmp_path / "broker"
    folder.mkdir()
    made = Broker("mosquitto", folder, free_ports(2), "")
    await made.start()
    yield made
    await made.stop()


@pytest.mark.asyncio
async def test_a_node_on_a_real_broker_is_asked_for_its_birth(broker: Broker, server: NatsServer, tmp_path: Path) -> None:
    client = await prepared(server)
    table = {"name": "plant", "kind": "sparkplug", "url": broker.url, "groups": ["g"]}
    async with working([table], server, tmp_path) as engine, MqttClient(broker.config()) as edge:
        async with edge.subscribe("spBv1.0/g/NCMD/e", 0) as commands:
            asking = asyncio.ensure_future(anext(commands))
            while not asking.done():
                await edge.publish(NODE.format("NDATA"), written(1, {"alias": 7, "float_value": 1.0}), 0)
                await asyncio.wait([asking], timeout=0.3)
            assert Payload.FromString(asking.result().payload).metrics[0].name == "Node Control/Rebirth"
        await edge.publish(NODE.format("NBIRTH"), BIRTH, 1)
        await edge.publish(NODE.format("NDATA"), written(1, {"alias": 7, "float_value": 30.25}), 1)

        async def there() -> bool:
            return len(await payloads(client, "devices/e/sparkplug")) >= 2

        await until(there, 30)
        found = [json.loads(each) for each in await payloads(client, "devices/e/sparkplug")]
        assert found == [{"ts": 1000, "Temperature": 21.5}, {"ts": 1000, "Temperature": 30.25}]
        assert await payloads(client, "devices/e/status") == [b'{"online":true}']
        await until(lambda: engine.report().connectors["plant"].refused.get("no birth yet"), 20)
    client.close()
