"""Modbus against pymodbus's own server: every type, a dead device beside a live one, a restart."""

import json
import socket
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from pymodbus.server import ModbusTcpServer
from pymodbus.simulator import DataType, SimData, SimDevice

from skerry.connector import parse_connector
from skerry.connector.kinds.modbus import Register, spans
from skerry.core.errors import ConfigError, UnavailableError
from tests.connector.contract import opened, take
from tests.connector.rig import payloads, prepared, working
from tests.fixtures.nats import NatsServer, until

WORDS = [SimData(0, values=[0x0102, 0xFFFE, 0x4048, 0xF5C3, 0xF5C3, 0x4048, 0, 0, 0, 7], datatype=DataType.REGISTERS)]
REGISTERS = [
    {"name": "plain", "address": 0}, {"name": "signed", "address": 1, "type": "int16", "scale": 0.5, "offset": 1.0},
    {"name": "pi", "address": 2, "type": "float32"}, {"name": "swapped", "address": 4, "type": "float32", "words": "little"},
    {"name": "long", "address": 6, "type": "uint64", "unit": "Wh"},
]  # fmt: skip


@asynccontextmanager
async def device(port: int) -> AsyncIterator[None]:
    """A device, as the library simulates one."""
    server = ModbusTcpServer(SimDevice(1, simdata=WORDS), address=("127.0.0.1", port))
    await server.serve_forever(background=True)
    try:
        yield
    finally:
        await server.shutdown()


def table(*ports: int, **more: Any) -> dict[str, Any]:
    devices = [{"name": f"meter-{at}", "host": "127.0.0.1", "port": port} for at, port in enumerate(ports)]
    return {
        "name": "meters", "kind": "modbus", "devices": devices, "registers": REGISTERS, "poll": "50ms", "timeout": "1s", **more,
    }  # fmt: skip


@pytest.mark.asyncio
async def test_values_as_the_registers_say(free_port: int, tmp_path: Path) -> None:
    async with device(free_port):
        source = opened(table(free_port), tmp_path)
        assert await source.test() == "1 device answered"
        found, _ = await take(source, b"", 1, settled=False)
    assert found[0].topic == "devices/meter-0/registers"
    values = json.loads(found[0].payload)
    assert values.pop("ts") > 1e9
    assert values.pop("pi") == values.pop("swapped") == pytest.approx(3.14, rel=1e-6)
    assert values == {"plain": 258, "signed": 0.0, "long": 7}


@pytest.mark.asyncio
async def test_a_dead_device_stops_no_other_and_is_taken_up_again(
    server: NatsServer, free_ports: Callable[[int], list[int]], tmp_path: Path
) -> None:
    client = await prepared(server)
    live, dead, mute = free_ports(3)
    hanging = socket.create_server(("127.0.0.1", mute))  # takes connections, never answers
    async with device(live), working([table(live, dead, mute)], server, tmp_path) as engine:

        async def from_live(least: int) -> bool:
            return len(await payloads(client, "devices/meter-0/registers")) >= least

        await until(lambda: from_live(5), 30)
        await until(lambda: "2 of 3 devices do not answer" in engine.report().connectors["meters"].trouble, 30)
        had = len(await payloads(client, "devices/meter-0/registers"))
        await until(lambda: from_live(had + 10), 30)
        assert engine.report().connectors["meters"].refused["no answer"] >= 2
        assert await payloads(client, "devices/meter-1/registers") == []
        async with device(dead):

            async def from_dead() -> list[bytes]:
                return await payloads(client, "devices/meter-1/registers")

            await until(from_dead, 60)
            await until(lambda: "1 of 3" in engine.report().connectors["meters"].trouble, 30)
    hanging.close()
    client.close()


@pytest.mark.asyncio
async def test_what_a_device_refuses_is_said(free_ports: Callable[[int], list[int]], tmp_path: Path) -> None:
    port, dead = free_ports(2)
    async with device(port):
        source = opened(table(port, registers=[{"name": "far", "address": 500}]), tmp_path)
        with pytest.raises(UnavailableError, match="meter-0: it refuses holding 500 to 500"):
            await source.test()
        with pytest.raises(UnavailableError, match=f"meter-1: 127.0.0.1:{dead} does not take a connection"):
            await opened(table(port, dead), tmp_path).test()


def test_what_is_asked_at_once() -> None:
    registers = [Register("a", 0), Register("b", 1, "float32"), Register("c", 3), Register("d", 5), Register("e", 0, table="input")]
    found = [(table, begin, count, [each.name for each in few]) for table, begin, count, few in spans(registers)]
    assert found == [("holding", 0, 4, ["a", "b", "c"]), ("holding", 5, 1, ["d"]), ("input", 0, 1, ["e"])]
    assert [count for _, _, count, _ in spans([Register(f"r{at}", at) for at in range(250)])] == [120, 120, 10]
    assert Register("nan", 0, "float32").value([0x7FC0, 0]) is None
    assert Register("on", 0, "bool", "coil").value([True]) is True
    assert Register("n", 0, "int64").value([0xFFFF, 0xFFFF, 0xFFFF, 0xFFFE]) == -2


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"registers": [{"name": "a", "address": 65_536}]}, "65536 is out of range; allowed: 0 to 65535"),
        ({"registers": [{"name": "a", "address": 0, "type": "bool"}]}, "holding holds no bool"),
        ({"registers": [{"name": "a", "address": 0, "scale": 0}]}, "no scale of 0"),
        ({"registers": []}, "c.registers: 0 are out of range"),
        ({"registers": [{"name": "a", "address": 0}] * 2}, "c.registers: a name is there twice"),
        ({"devices": [{"name": "a", "host": "h", "unit": 256}]}, "unit 0 to 255"),
        ({"timeout": "1ms"}, "c.timeout: 1ms is out of range"),
        ({"topic": "devices/{dev}"}, r"c.topic: \{dev\} is not known"),
    ],
)
def test_what_is_wrong_is_named(change: dict[str, Any], complaint: str) -> None:
    with pytest.raises(ConfigError, match=complaint):
        parse_connector({**table(502), **change}, "c")


def test_without_the_extra_the_sentence_says_what_to_install(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "pymodbus", None)
    with pytest.raises(ConfigError, match=r"kind modbus needs pymodbus; install it: pip install 'skerry\[modbus\]'"):
        opened(table(502), tmp_path)
