"""A member's nats-server through its join port: for members, and for nobody else."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from skerry import ClusterConfig, ClusterManager
from skerry.broker import WireClient, bucket_plan, ensure, kv_get, kv_put
from skerry.cluster import JoinPort, Tunnel, carrier, join, proof_of
from skerry.core.clock import SystemClock
from skerry.core.errors import SkerryError, UnavailableError
from skerry.trust import ServerTls, SigningKey, TlsFiles
from tests.fixtures.certificates import Site
from tests.fixtures.nats import NatsServer

CLOCK = SystemClock()
PROOF = proof_of("seed of all members")


class Member:
    """A cluster of one with a join port, through which its nats-server is reached."""

    def __init__(self, folder: Path, cluster: ClusterManager, config: ClusterConfig, server: NatsServer) -> None:
        self.site = Site(folder / "tls", CLOCK.now())
        self.members = {"b"}
        self.open = True
        tls = ServerTls(TlsFiles("cluster", self.site.cert, self.site.key, self.site.ca), CLOCK)
        self.port = JoinPort(config, cluster, self.site.authority.load(), SigningKey.new(), lambda: tls.context, dict, CLOCK)
        place = ("127.0.0.1", server.port, "agent", "pw")
        self.port.through = carrier(PROOF, self.members.__contains__, lambda: place if self.open else None)

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port.port}"


@pytest_asyncio.fixture
async def member(tmp_path: Path, free_port: int, server: NatsServer) -> AsyncIterator[Member]:
    config = ClusterConfig("a", site="quay", address=f"127.0.0.1:{free_port}", discovery="seeds")
    async with ClusterManager(config) as cluster:
        await cluster.elect_leader()
        found = Member(tmp_path, cluster, config, server)
        async with found.port:
            await found.port.listen("127.0.0.1", free_port)
            own = ClusterConfig("b", site="quay", address="127.0.0.1:7444", discovery="seeds")
            await join(own, tmp_path / "b", token=await found.port.new_token())
            yield found


@pytest.mark.asyncio
async def test_a_member_writes_and_reads_there(member: Member, tmp_path: Path) -> None:
    async with Tunnel(tmp_path / "b", PROOF, lambda: ["127.0.0.1:1", member.address]) as tunnel:
        host, port, user, password = await tunnel.target()
        assert (host, user) == ("127.0.0.1", "agent")
        client = await WireClient.connect(host, port, user, password, "test")
        await ensure(client, bucket_plan("skerry_test", 8 << 20))
        big = bytes(700_000)
        await kv_put(client, "skerry_test", "key", big, 0)
        assert await kv_get(client, "skerry_test", "key") == (big, 1)
        client.close()
        await client.closed


@pytest.mark.asyncio
async def test_nobody_else_is_carried(member: Member, tmp_path: Path) -> None:
    async def refused(folder: Path, proof: str, why: str) -> None:
        async with Tunnel(folder, proof, lambda: [member.address]) as tunnel:
            with pytest.raises(UnavailableError, match=why):
                await tunnel.target()
            assert tunnel.login == ("", "")

    await refused(tmp_path / "b", proof_of("another seed"), "no member of this cluster")
    member.members.clear()
    await refused(tmp_path / "b", PROOF, "b is no member of this cluster")
    member.members.add("pump-1")
    member.members.add("b")
    member.open = False
    await refused(tmp_path / "b", PROOF, "not there at the moment")
    # without a certificate, and with one of another authority
    member.open = True
    stranger = Site(tmp_path / "elsewhere", CLOCK.now())
    for name, content in (("node.pem", stranger.cert), ("node.key", stranger.key)):
        (tmp_path / "b" / name).write_bytes(content.read_bytes())
    async with Tunnel(tmp_path / "b", PROOF, lambda: [member.address]) as tunnel:
        with pytest.raises(SkerryError):
            await tunnel.target()
    (tmp_path / "b" / "node.pem").unlink()
    await refused(tmp_path / "b", PROOF, "No such file")


@pytest.mark.asyncio
async def test_where_nobody_answers_it_says_so(tmp_path: Path, member: Member) -> None:
    async with Tunnel(tmp_path / "b", PROOF, list) as tunnel:
        with pytest.raises(UnavailableError, match="no member's address is known"):
            await tunnel.target()
        with pytest.raises(UnavailableError):
            await WireClient.connect("127.0.0.1", tunnel.port, "agent", "x", "test")
        assert "no member's address is known" in tunnel.trouble
