"""The contract of leases, in memory and in a real nats-server; and what only the latter can meet."""

import asyncio
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from skerry.cluster import JetStreamLeases, MemoryLeases
from skerry.core.errors import UnavailableError
from tests.contracts.leases import LeasesContract
from tests.fixtures.nats import NatsServer, until


def leases_of(server: NatsServer) -> JetStreamLeases:
    return JetStreamLeases((("127.0.0.1", server.port),), "agent", "pw")


class TestMemory(LeasesContract):
    @pytest.fixture
    def leases(self) -> MemoryLeases:
        return MemoryLeases()


class TestJetStream(LeasesContract):
    @pytest_asyncio.fixture
    async def leases(self, server: NatsServer) -> AsyncIterator[JetStreamLeases]:
        (await server.client()).close()
        found = leases_of(server)
        yield found
        await found.close()


@pytest.mark.asyncio
async def test_records_outlive_the_server_and_the_connection_comes_back(server: NatsServer) -> None:
    (await server.client()).close()
    leases = leases_of(server)
    revision = await leases.write("leader", b"a", 0)
    server.kill()
    with pytest.raises(UnavailableError):
        await leases.write("leader", b"b", revision)
    with pytest.raises(UnavailableError):
        await leases.read(0)
    server.start()

    async def read() -> bool:
        try:
            return (await leases.read(0))["leader"].value == b"a"
        except UnavailableError:
            return False

    await until(read, 20)
    await leases.write("leader", b"b", revision)
    await leases.close()
    await leases.close()


@pytest.mark.asyncio
async def test_a_server_that_stands_still_is_not_waited_for(server: NatsServer) -> None:
    (await server.client()).close()
    leases = leases_of(server)
    await leases.write("leader", b"a", 0)
    server.pause()
    with pytest.raises(UnavailableError, match=r"acknowledged within|took over"):
        await leases.write("member.a", b"b", 0)
    with pytest.raises(UnavailableError, match=r"acknowledged within|took over"):
        await leases.read(0)
    server.go_on()
    await until(lambda: asyncio.wait_for(leases.read(0), 10), 20)
    await leases.close()


@pytest.mark.asyncio
async def test_the_next_server_is_asked(server: NatsServer, free_port: int) -> None:
    (await server.client()).close()
    leases = JetStreamLeases((("127.0.0.1", free_port), ("127.0.0.1", server.port)), "agent", "pw")
    with pytest.raises(UnavailableError):
        await leases.read(0)
    assert await leases.read(0) == {}
    await leases.close()
