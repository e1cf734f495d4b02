"""Where a device of a cluster connects: the file with the nodes' addresses, and one node after the other."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from skerry.core.errors import ConfigError
from skerry.device import DeviceClient, DeviceConfig
from skerry.mqtt import MqttClient, MqttConfig
from tests.mqtt.brokers import Broker

NODES = [
    {"node": "a", "mqtt": "10.0.0.1:1883", "mqtts": "10.0.0.1:8883", "http": "10.0.0.1:8080"},
    {"node": "b", "mqtt": "10.0.0.2:1883", "http": "10.0.0.2:8080"},
]


@pytest.fixture
def file(tmp_path: Path) -> str:
    (tmp_path / "key.nodes").write_text(json.dumps({"nodes": NODES}))
    return str(tmp_path / "key.nodes")


def test_the_scheme_chooses_the_door(file: str) -> None:
    plain = DeviceConfig("d", password="p", nodes=file)
    assert plain.places() == [("mqtt://10.0.0.1:1883", "http://10.0.0.1:8080"), ("mqtt://10.0.0.2:1883", "http://10.0.0.2:8080")]
    assert [each.url for each in plain.mqtt().addresses()] == ["mqtt://10.0.0.1:1883", "mqtt://10.0.0.2:1883"]
    secure = DeviceConfig("d", password="p", url="mqtts://any", nodes=file)
    assert secure.places() == [("mqtts://10.0.0.1:8883", "https://10.0.0.1:8080")]
    assert DeviceClient(plain).status == "mqtt://10.0.0.1:1883: not connected yet"


@pytest.mark.parametrize(
    ("text", "url"), [("{}", "mqtt://x"), ("no json", "mqtt://x"), ('{"nodes": []}', "mqtt://x"), (None, "wss://x")]
)
def test_a_file_without_nodes_is_told(file: str, text: str | None, url: str) -> None:
    if text is not None:
        Path(file).write_text(text)
    with pytest.raises(ConfigError, match="no node"):
        DeviceConfig("d", password="p", url=url, nodes=file).mqtt()


def test_all_addresses_have_one_scheme() -> None:
    with pytest.raises(ConfigError, match="none of mqtt"):
        MqttConfig("mqtt://a", others=("mqtts://b",)).addresses()


@pytest.mark.asyncio
async def test_the_next_one_is_tried_when_one_is_not_there_or_ends(tmp_path: Path, free_ports: Callable[[int], list[int]]) -> None:
    nobody, *ports = free_ports(5)
    brokers = []
    for at in (0, 2):
        (tmp_path / str(at)).mkdir()
        brokers.append(Broker("nats", tmp_path / str(at), ports[at : at + 2], ""))
        await brokers[-1].start()
    try:
        urls = [f"mqtt://127.0.0.1:{nobody}", *(broker.url for broker in brokers)]
        async with MqttClient(MqttConfig(urls[0], client_id="d", others=tuple(urls[1:]), connect_timeout=30)) as client:
            await client.publish("t", b"1", timeout=30)
            assert client.status == f"{urls[1]}: connected"
            await brokers[0].stop()
            await client.publish("t", b"2", timeout=30)
            assert client.status == f"{urls[2]}: connected"
    finally:
        for broker in brokers:
            await broker.stop()
