"""A device's side over TLS: by certificate, by key, over a WebSocket; and a node that nobody vouches for."""

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from skerry import DeviceClient, DeviceConfig, errors
from skerry.cli import main
from skerry.trust import SigningKey
from tests.fixtures.node import RunningNode, until

PIPELINE = """
[[pipelines]]
name = "numbers"
source = { topic = "devices/+/numbers", values = ["n"] }
"""


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A site's CA, the node's certificate, and a certificate of the device `badge`."""
    folder = tmp_path_factory.mktemp("site")
    assert main(["init", str(folder), "--tls", "-q"]) == 0
    issue = ["--config", str(folder / "skerry.toml"), "ca", "issue", "badge", "--out", str(folder / "badge.pem")]
    assert main([*issue, "-q"]) == 0
    (folder / "node").mkdir()
    return folder


@pytest.fixture(scope="module")
def node(site: Path) -> Iterator[RunningNode]:
    tls = site / "data" / "tls"
    files = f'cert = "{tls}/server.pem", key = "{tls}/server.key"'
    lines = f'mqtts = "127.0.0.1:0"\nwebsocket = "127.0.0.1:0"\ntls = {{ {files}, ca = "{tls}/ca.pem" }}'
    with RunningNode(site / "node", PIPELINE, broker=lines, env={"SKERRY_API__TLS": f"{{ {files} }}"}) as running:
        yield running


@pytest.mark.asyncio
async def test_each_way_in(node: RunningNode, site: Path) -> None:
    broker, key = node.status()["broker"], SigningKey.new()
    (site / "keyed.key").write_text(key.pem())
    with node.client() as client:
        client.post("/api/v1/devices", {"id": "badge", "certificate": "ca"})
        client.post("/api/v1/devices", {"id": "keyed", "key": key.public_pem()})
    ca, api = str(site / "data" / "tls" / "ca.pem"), f"https://{broker['http']}"
    keyed = {"key_file": str(site / "keyed.key"), "api": api}
    ways = [
        DeviceConfig("badge", cert=str(site / "badge.pem"), url=f"mqtts://{broker['mqtts']}", ca=ca),
        DeviceConfig("keyed", url=f"mqtts://{broker['mqtts']}", ca=ca, **keyed),
        DeviceConfig("keyed", url=f"wss://{broker['websocket']}", ca=ca, **keyed),
    ]
    for number, way in enumerate(ways):
        async with DeviceClient(way) as device:
            await device.publish("numbers", f'{{"n": {number}}}', timeout=10)
    found = {(event["key"], event["score"]) for event in await asyncio.to_thread(events, node)}
    assert found == {("badge", 0.0), ("keyed", 1.0), ("keyed", 2.0)}


def events(node: RunningNode) -> list[dict[str, object]]:
    until(lambda: len(node.events("numbers")) == 3, 10, "all three are scored")
    return node.events("numbers")


@pytest.mark.asyncio
async def test_a_node_that_nobody_vouches_for_gets_no_password_and_no_signature(node: RunningNode, site: Path) -> None:
    broker = node.status()["broker"]
    granted = node.status()["broker"]["refused"]
    with pytest.raises(errors.RejectedError, match="certificate is not trusted"):
        async with DeviceClient(DeviceConfig("worded", password="a-good-password", url=f"mqtts://{broker['mqtts']}")):
            pass
    there = {"url": f"mqtts://{broker['mqtts']}", "api": f"https://{broker['http']}"}
    keyed = DeviceConfig("keyed", key_file=str(site / "keyed.key"), connect_timeout=1.0, **there)
    with pytest.raises(errors.UnavailableError, match="the node's certificate is signed by a CA that is not known"):
        async with DeviceClient(keyed):
            pass
    # nothing that could be refused has reached the node
    assert node.status()["broker"]["refused"] == granted
