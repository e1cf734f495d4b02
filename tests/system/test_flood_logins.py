"""Floods at the door: log-ins with rubbish, and connections that say nothing. Who is trusted gets in all the same.

A sample of what `make soak` does in whole, and prints.
"""

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fixtures.node import RunningNode
from tests.fixtures.raw_mqtt import connect
from tests.system.logins import ACCEPTED, CLOSED, Fill, Flood, Trusted, ended, half_open, until_in

ATTEMPTS, WARM, HALF_OPEN = 2000, 60, 250
DEVICES = 12
MORE_MIB = 48


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningNode]:
    with RunningNode(tmp_path_factory.mktemp("flood")) as running:
        yield running


@pytest.fixture
def trusted(node: RunningNode, tmp_path: Path) -> Trusted:
    return Trusted(node, DEVICES, tmp_path.name)


@pytest.mark.asyncio
async def test_trusted_devices_get_in_beside_a_flood_of_rubbish(node: RunningNode, trusted: Trusted) -> None:
    async with Flood(node.mqtt, trusted.names, WARM):
        pass  # what checks a password keeps some memory once it has had it
    before = Fill.of(node)
    async with Flood(node.mqtt, trusted.names, ATTEMPTS, at_once=400) as flood:
        await asyncio.sleep(0.2)
        assert flood.going
        for user, password in trusted.credentials():
            await until_in(node.mqtt, user, password)
    assert flood.codes.total() == ATTEMPTS
    assert flood.codes[ACCEPTED] == 0
    refused = node.status()["broker"]["refused"]
    assert sum(refused.values()) >= ATTEMPTS - flood.codes[CLOSED]
    before.check(node, MORE_MIB)


@pytest.mark.asyncio
async def test_trusted_devices_get_in_beside_connections_that_say_too_little(node: RunningNode, trusted: Trusted) -> None:
    before, (host, _, port) = Fill.of(node), node.status()["broker"]["http"].rpartition(":")
    api = (host, int(port))
    reader, writer = await asyncio.open_connection(*node.mqtt)
    # a CONNECT of two million bytes, one at a time
    writer.write(b"\x10\xff\xff\x7f" + connect("slow")[2:])

    async def dribble() -> None:
        while True:
            writer.write(b"x")
            await asyncio.sleep(0.1)

    dribbling = asyncio.create_task(dribble())
    try:
        async with (
            half_open(node.mqtt, HALF_OPEN) as silent,
            half_open(node.mqtt, HALF_OPEN, b"\x10\x7f\x00\x04MQ") as half,
            half_open(api, HALF_OPEN) as _,
            half_open(api, HALF_OPEN, b"POST /auth/token HTTP/1.1\r\ncontent-le") as _,
        ):
            # tokens are fetched over HTTP
            for user, password in trusted.credentials():
                await until_in(node.mqtt, user, password)
            # nats-server gives a client `authorization.timeout` for its CONNECT
            assert await ended([reader, *silent, *half], 8) == 2 * HALF_OPEN + 1
    finally:
        dribbling.cancel()
        writer.close()
    before.check(node, MORE_MIB)
