"""OPC UA against asyncua's own server: read and told, a dead server beside a live one, a restart."""

import json
import logging
import socket
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from asyncua import Node, Server, ua

from skerry.connector import parse_connector
from skerry.core.errors import ConfigError, UnavailableError
from tests.connector.contract import opened, take
from tests.connector.rig import payloads, prepared, working
from tests.fixtures.nats import NatsServer, until

NODES = [
    {"name": "speed", "id": "ns=2;s=Speed"}, {"name": "on", "id": "ns=2;s=On"}, {"name": "text", "id": "ns=2;s=Text"},
    {"name": "list", "id": "ns=2;s=List"},
]  # fmt: skip


@asynccontextmanager
async def machine(port: int) -> AsyncIterator[Node]:
    """A server, as the library has it; its node of the speed."""
    logging.getLogger("asyncua").setLevel(logging.ERROR)
    server = Server()
    await server.init()
    server.set_endpoint(f"opc.tcp://127.0.0.1:{port}/")
    server.set_security_policy([ua.SecurityPolicyType.NoSecurity])
    space = await server.register_namespace("urn:press")
    speed = await server.nodes.objects.add_variable(f"ns={space};s=Speed", "Speed", 12.5)
    for name, value in (("On", True), ("Text", "ready — ü"), ("List", [1.0, 2.0])):
        await server.nodes.objects.add_variable(f"ns={space};s={name}", name, value)
    async with server:
        yield speed


def table(*ports: int, **more: Any) -> dict[str, Any]:
    servers = [{"name": f"press-{at}", "url": f"opc.tcp://127.0.0.1:{port}/"} for at, port in enumerate(ports)]
    return {"name": "hall", "kind": "opcua", "servers": servers, "nodes": NODES, "poll": "100ms", "timeout": "4s", **more}


async def check_read(port: int, tmp_path: Path) -> None:
    source = opened(table(port), tmp_path)
    assert await source.test() == "1 device answered"
    found, _ = await take(source, b"", 1, settled=False)
    assert found[0].topic == "devices/press-0/values"
    values = json.loads(found[0].payload)
    assert values.pop("ts") > 1e9
    assert values == {"speed": 12.5, "on": True, "text": "ready — ü"}
    with pytest.raises(UnavailableError, match="press-0: none of the nodes has a good value; look at their ids"):
        await opened(table(port, nodes=[{"name": "x", "id": "ns=2;s=Nothing"}]), tmp_path).test()


@pytest.mark.asyncio
async def test_values_are_read_and_told_when_they_change(server: NatsServer, free_port: int, tmp_path: Path) -> None:
    client = await prepared(server)

    async def speeds() -> list[float]:
        found = [json.loads(each) for each in await payloads(client)]
        return [each["speed"] for each in found if "speed" in each]

    async with machine(free_port) as speed:
        await check_read(free_port, tmp_path)
        async with working([table(free_port, mode="subscribe")], server, tmp_path):
            await until(speeds, 30)
            for value in (13.5, 14.5):
                await speed.write_value(value)
                await until(lambda value=value: _has(speeds, value), 30)
        assert await speeds() == [12.5, 13.5, 14.5]
    client.close()


async def _has(speeds: Callable[[], Any], value: float) -> bool:
    return value in await speeds()


@pytest.mark.asyncio
async def test_a_dead_server_stops_no_other_and_is_taken_up_again(
    server: NatsServer, free_ports: Callable[[int], list[int]], tmp_path: Path
) -> None:
    client = await prepared(server)
    live, dead, mute = free_ports(3)
    hanging = socket.create_server(("127.0.0.1", mute))  # takes connections, never answers

    async def count(name: str) -> int:
        return len(await payloads(client, f"devices/{name}/values"))

    async def more(name: str, than: int) -> bool:
        return await count(name) > than

    async with machine(live), working([table(live, dead, mute, timeout="2s")], server, tmp_path) as engine:
        await until(lambda: more("press-0", 4), 30)
        await until(lambda: "2 of 3 devices do not answer" in engine.report().connectors["hall"].trouble, 30)
        had = await count("press-0")
        await until(lambda: more("press-0", had + 5), 30)
        assert await count("press-1") == 0
        async with machine(dead):
            await until(lambda: more("press-1", 0), 60)
        await until(lambda: "2 of 3" in engine.report().connectors["hall"].trouble, 30)
    hanging.close()
    client.close()


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"servers": []}, "c.servers: 0 are out of range"),
        ({"servers": [{"name": "a", "url": "http://h"}]}, "'http://h' is no such address; allowed: opc.tcp://host:port"),
        ({"servers": [{"name": "a", "url": "opc.tcp://u:p@h"}]}, "carries a log-in"),
        ({"nodes": [{"name": "a", "id": "x"}] * 2}, "c.nodes: a name is there twice"),
        ({"mode": "watch"}, "c.mode: 'watch' is not known"),
    ],
)
def test_what_is_wrong_is_named(change: dict[str, Any], complaint: str) -> None:
    with pytest.raises(ConfigError, match=complaint):
        parse_connector({**table(4840), **change}, "c")


def test_what_is_no_id_and_what_is_missing_is_said(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="'Speed' is no node id; allowed: such as ns=2;s=Speed"):
        opened(table(4840, nodes=[{"name": "a", "id": "Speed"}]), tmp_path)
    monkeypatch.setitem(sys.modules, "asyncua.ua", None)
    with pytest.raises(ConfigError, match=r"kind opcua needs asyncua; install it: pip install 'skerry\[opcua\]'"):
        opened(table(4840), tmp_path)
