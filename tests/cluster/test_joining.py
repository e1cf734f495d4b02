"""Joining over a real port: with a token, with a person's approval, and each reason why not."""

import asyncio
import json
import socket
import ssl
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest
import pytest_asyncio

from skerry import ClusterConfig, ClusterManager, NodeStatus
from skerry.cluster import JoinPort, has_joined, hello_of, join
from skerry.cluster.joining import CA, CERTIFICATE, KEY
from skerry.cluster.tickets import mint, read_token
from skerry.core.clock import ManualClock, SystemClock
from skerry.core.errors import RejectedError, UnavailableError
from skerry.trust import ServerTls, SigningKey, TlsFiles, certificate_facts, signed_by
from tests.fixtures.certificates import Site
from tests.fixtures.nats import until

CLOCK = SystemClock()


class Member:
    """A running cluster of one, and its join port."""

    def __init__(self, folder: Path, cluster: ClusterManager, config: ClusterConfig, key: SigningKey) -> None:
        self.site = Site(folder / "tls", CLOCK.now())
        self.cluster = cluster
        tls = ServerTls(TlsFiles("cluster", self.site.cert, self.site.key), CLOCK)
        share = {"route": "a secret of all members"}
        authority = self.site.authority.load()
        self.port = JoinPort(config, cluster, authority, key, lambda: tls.context, lambda: share, CLOCK)

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port.port}"


@pytest_asyncio.fixture
async def member(tmp_path: Path, free_port: int) -> AsyncIterator[Member]:
    config = ClusterConfig("a", site="quay", address=f"127.0.0.1:{free_port}", discovery="seeds")
    async with ClusterManager(config) as cluster:
        await cluster.elect_leader()
        found = Member(tmp_path, cluster, config, SigningKey.new())
        async with found.port:
            await found.port.listen("127.0.0.1", free_port)
            yield found


def node(name: str = "b", **options: str) -> ClusterConfig:
    return ClusterConfig(name, **{"site": "quay", "address": "127.0.0.1:7444", "discovery": "seeds", **options})  # type: ignore[arg-type]  # strings all


@pytest.mark.asyncio
async def test_a_token_is_enough(member: Member, tmp_path: Path) -> None:
    steps: list[str] = []
    folder = tmp_path / "b"
    assert has_joined(folder) is None
    joined = await join(node(), folder, token=await member.port.new_token(), tell=steps.append)
    assert joined == has_joined(folder)
    assert (joined.site, joined.by, joined.warnings) == ("quay", "a", ())
    assert [(each.id, each.status) for each in joined.members] == [("a", NodeStatus.ONLINE)]
    assert joined.share == {"route": "a secret of all members"}
    assert "secret" not in repr(joined)
    assert steps[0] == f"asking {member.address}"
    assert steps[1].startswith("a is of the site quay and runs skerry")
    assert steps[-1].startswith("a let it in")
    facts = certificate_facts((folder / CERTIFICATE).read_bytes())
    assert facts.names[0] == "b"
    assert "127.0.0.1" in facts.names
    assert signed_by((folder / CERTIFICATE).read_bytes(), (folder / CA).read_bytes())
    assert (folder / CA).read_bytes() == member.site.ca.read_bytes()
    assert all(file.stat().st_mode & 0o777 == 0o600 for file in folder.iterdir())
    assert folder.stat().st_mode & 0o777 == 0o700
    ssl.create_default_context().load_cert_chain(folder / CERTIFICATE, folder / KEY)
    with pytest.raises(RejectedError, match="has joined already"):
        await join(node(), folder, token=await member.port.new_token())


@pytest.mark.asyncio
async def test_a_token_works_once(member: Member, tmp_path: Path) -> None:
    token = await member.port.new_token()
    tries = [join(node(f"n{at}"), tmp_path / f"n{at}", token=token) for at in range(3)]
    done = await asyncio.gather(*tries, return_exceptions=True)
    refused = [each for each in done if isinstance(each, RejectedError)]
    assert len(refused) == 2
    assert all(each.message == "the token was used before" for each in refused)


@pytest.mark.asyncio
async def test_a_person_may_approve_and_compares_the_codes(member: Member, tmp_path: Path) -> None:
    steps: list[str] = []
    task = asyncio.create_task(join(node(), tmp_path / "b", addresses=(member.address,), tell=steps.append))
    (waiting,) = await until(member.port.pending, 20)
    assert (waiting.node, waiting.address) == ("b", "127.0.0.1:7444")
    await until(lambda: waiting.code in steps[-1], 20)
    with pytest.raises(RejectedError, match="no node b waits with the code 0000"):
        member.port.approve("b", "0000")
    with pytest.raises(RejectedError, match="b waits already"):
        await join(node(), tmp_path / "again", addresses=(member.address,))
    member.port.approve("b", waiting.code)
    assert (await task).by == "a"
    assert member.port.pending() == []


@pytest.mark.asyncio
async def test_who_goes_away_waits_no_more(member: Member, tmp_path: Path) -> None:
    task = asyncio.create_task(join(node(), tmp_path / "b", addresses=(member.address,)))
    await until(member.port.pending, 20)
    task.cancel()
    await until(lambda: not member.port.pending(), 20)
    assert has_joined(tmp_path / "b") is None


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"name": "a"}, "a node called a is in the cluster and Online; set another"),
        ({"site": "farm"}, "a is of the site quay, this node of farm"),
        ({"version": "9.9.9"}, r"a: it runs skerry 0\.\d+\.\d+\S*, which does not work with 9\.9\.9"),
    ],
    ids=["name", "site", "version"],
)
async def test_each_reason_why_not(member: Member, tmp_path: Path, change: dict[str, str], why: str) -> None:
    with pytest.raises(RejectedError, match=why):
        await join(node(**change), tmp_path / "b", token=await member.port.new_token())
    assert has_joined(tmp_path / "b") is None


@pytest.mark.asyncio
async def test_a_wrong_clock_is_warned_of(member: Member, tmp_path: Path) -> None:
    clock = ManualClock(CLOCK.now() - 3_600_000_000)
    joined = await join(node(), tmp_path / "b", token=await member.port.new_token(7200), clock=clock)
    assert len(joined.warnings) == 1
    assert joined.warnings[0].startswith("its clock is 36")


@pytest.mark.asyncio
async def test_a_token_is_not_given_to_another_site(member: Member, tmp_path: Path) -> None:
    other = Member(tmp_path / "other", member.cluster, ClusterConfig("a", site="quay"), SigningKey.new())
    async with other.port:
        await other.port.listen("127.0.0.1", 0)
        with pytest.raises(RejectedError, match="not of the site that made the token"):
            await join(node(), tmp_path / "b", token=await member.port.new_token(), addresses=(other.address,))


@pytest.mark.asyncio
async def test_a_device_cannot_pose_as_a_member(member: Member, tmp_path: Path) -> None:
    """Its certificate is of the same authority, but a client's: it gets no token to see."""
    pair = member.site.device("pump-1")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pair)
    heard: list[bytes] = []

    async def pose(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        found = member.port._hello()
        writer.write(json.dumps({name: getattr(found, name) for name in found.__struct_fields__}).encode() + b"\n")
        heard.append(await reader.read(10_000))
        writer.close()

    server = await asyncio.start_server(pose, "127.0.0.1", 0, ssl=context)
    address = f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
    with pytest.raises(RejectedError, match="no certificate of a member"):
        await join(node(), tmp_path / "b", token=await member.port.new_token(), addresses=(address,))
    server.close()
    await until(lambda: heard == [b""], 20)


@pytest.mark.asyncio
async def test_a_wiped_or_removed_node_may_come_again(member: Member, tmp_path: Path) -> None:
    async with ClusterManager(node(), leases=member.cluster._leases) as b:
        await b.elect_leader()
    await until(lambda: str(member.cluster.members()[1].status) == "Offline", 20)
    await member.cluster.remove("b")
    await join(node(), tmp_path / "b", token=await member.port.new_token())
    async with ClusterManager(node(), leases=member.cluster._leases) as b:
        assert await b.elect_leader() == "a"


@pytest.mark.asyncio
async def test_the_next_member_is_asked_and_all_that_are_gone_are_told(member: Member, tmp_path: Path) -> None:
    steps: list[str] = []
    gone = "127.0.0.1:1"
    await join(node(), tmp_path / "b", token=await member.port.new_token(), addresses=(gone, member.address), tell=steps.append)
    assert steps[1].startswith(f"{gone} does not answer")
    with pytest.raises(UnavailableError, match="is the node there running"):
        await join(node("c"), tmp_path / "c", addresses=(gone,))
    with pytest.raises(RejectedError, match="no member's address is known"):
        await join(node("c"), tmp_path / "c")


@pytest.mark.asyncio
async def test_seeds_are_asked_who_they_are(member: Member) -> None:
    assert (await hello_of(member.address)).id == "a"
    config = ClusterConfig("z", site="quay", discovery="seeds", seeds=(member.address, "127.0.0.1:1"))
    found = await ClusterManager(config).discover_nodes(10)
    assert [(each.id, each.address, each.reason) for each in found] == [("a", member.address, "it has not joined")]
    other = ClusterConfig("z", site="farm", discovery="seeds", seeds=(member.address,))
    assert await ClusterManager(other).discover_nodes(10) == []


@pytest.mark.asyncio
async def test_rubbish_on_the_port_is_answered_and_hurts_nobody(member: Member, tmp_path: Path) -> None:
    context = ssl.create_default_context(cafile=str(member.site.ca))
    for line in (b"\n", b'{"node": 1}\n', b"[" * 1000 + b"\n", b"x" * 600_000):
        reader, writer = await asyncio.open_connection("127.0.0.1", member.port.port, ssl=context)
        assert json.loads(await reader.readline())["id"] == "a"
        writer.write(line)
        if line.endswith(b"\n"):
            assert "no request to join" in json.loads(await reader.readline())["error"]
        writer.close()
    with socket.create_connection(("127.0.0.1", member.port.port)) as plain:
        plain.sendall(b"GET / HTTP/1.1\r\n\r\n")
        await join(node(), tmp_path / "b", token=await member.port.new_token())


@pytest.mark.asyncio
async def test_what_signs_tokens_is_not_enough_to_make_one(tmp_path: Path, free_port: int) -> None:
    config, key = ClusterConfig("a", site="quay", address=f"127.0.0.1:{free_port}", discovery="seeds"), SigningKey.new()
    async with ClusterManager(config) as cluster:
        await cluster.elect_leader()
        member = Member(tmp_path, cluster, config, key)
        async with member.port:
            await member.port.listen("127.0.0.1", free_port)
            # one that was taken out has the key with all its files, and the site's CA
            ticket = read_token(await member.port.new_token())
            forged = mint(msgspec.structs.replace(ticket, id="made-elsewhere"), key.sign)
            with pytest.raises(RejectedError, match="no member of this cluster made the token"):
                await join(node(), tmp_path / "b", token=forged)


@pytest.mark.asyncio
async def test_a_token_has_a_time(tmp_path: Path) -> None:
    config = ClusterConfig("a", site="quay")
    member = Member(tmp_path, ClusterManager(config), config, SigningKey.new())
    for ttl in (0, 8 * 86_400):
        with pytest.raises(RejectedError, match="no time for a token"):
            await member.port.new_token(ttl)
