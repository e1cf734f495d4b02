"""Which servers are one: what is kept of it, and what a node's own server makes of it."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from skerry.broker import ALONE, LOG, MIB, BrokerConfig, NatsServer, Place, WireClient, api, bucket_plan, log_plan
from skerry.cluster import Servers, place_of, read_servers, route_password, write_servers
from skerry.core.clock import SystemClock
from skerry.core.errors import ConfigError, CorruptError
from skerry.core.service import cancel_and_wait
from skerry.runtime import free_ports
from skerry.trust import KeyPair, Role, issue_node, new_request
from tests.fixtures.certificates import Site
from tests.fixtures.nats_cluster import made

NAMES = ("north", "east", "west")
ISSUER = KeyPair.new(Role.ACCOUNT)
THREE = Servers("quay", 3, tuple((name, f"10.0.0.{at}:6222") for at, name in enumerate(NAMES, 1)))


def test_what_is_kept_is_there_whole_or_not_at_all(tmp_path: Path) -> None:
    folder = tmp_path / "cluster"
    assert read_servers(folder) is None
    assert place_of(folder, "north", ISSUER.seed) == ALONE
    write_servers(folder, THREE)
    assert read_servers(folder) == THREE
    assert (folder / "servers.json").stat().st_mode & 0o777 == 0o600
    write_servers(folder, None)
    assert read_servers(folder) is None
    (folder / "servers.json").write_bytes(b'{"name":"quay","replicas":3,"members":[["north","10.0.0.1:6222"]]}')
    with pytest.raises(CorruptError, match="3 replicas on 1 servers"):
        read_servers(folder)
    (folder / "servers.json").write_bytes(b"[")
    with pytest.raises(CorruptError, match="cannot be read"):
        place_of(folder, "north", ISSUER.seed)


def test_a_place_among_them(tmp_path: Path) -> None:
    write_servers(tmp_path, THREE)
    place = place_of(tmp_path, "east", ISSUER.seed)
    assert place.routes is not None
    assert (place.name, place.replicas, place.routes.host, place.routes.port) == ("east", 3, "10.0.0.2", 6222)
    assert place.routes.members == ("10.0.0.1:6222", "10.0.0.2:6222", "10.0.0.3:6222")
    assert place.routes.password == route_password(ISSUER.seed) != route_password(KeyPair.new(Role.ACCOUNT).seed)
    assert place.store != ALONE.store, "streams of a server alone are deleted by one of several"
    there = place_of(tmp_path, "east", ISSUER.seed, "0.0.0.0:7000").routes
    assert there is not None
    assert (there.host, there.port) == ("0.0.0.0", 7000)
    with pytest.raises(CorruptError, match="south is none of the cluster's servers"):
        place_of(tmp_path, "south", ISSUER.seed)


@pytest.mark.parametrize("members", [THREE.members[:2], (*THREE.members[:2], ("west", "nowhere"))])
def test_what_is_no_cluster(members: tuple[tuple[str, str], ...]) -> None:
    with pytest.raises(ConfigError):
        Servers("quay", 3, members)


def test_syncs_before_each_acknowledgement_where_there_are_several(tmp_path: Path) -> None:
    place = THREE.place("north", tmp_path, "x")
    assert [BrokerConfig().sync_of(each) for each in (ALONE, place)] == ["1s", "always"]
    assert BrokerConfig(sync="2s").sync_of(place) == "2s"


def folder_of(data_dir: Path, site: Site, name: str, servers: Servers) -> None:
    """As a node has it that has joined."""
    folder = data_dir / "cluster"
    folder.mkdir(parents=True)
    asked = new_request(name)
    (folder / "node.pem").write_bytes(issue_node(site.authority.load(), asked.certificate, name, ("127.0.0.1",), site.now))
    (folder / "node.key").write_bytes(asked.key)
    (folder / "ca.pem").write_bytes(site.ca.read_bytes())
    write_servers(folder, servers)


@contextlib.asynccontextmanager
async def three(folder: Path) -> AsyncIterator[list[NatsServer]]:
    """Three nodes' servers that found the file."""
    clock = SystemClock()
    site = Site(folder / "tls", clock.now())
    ports = free_ports("127.0.0.1", [0, 0, 0])
    servers = Servers("quay", 3, tuple((name, f"127.0.0.1:{port}") for name, port in zip(NAMES, ports, strict=True)))
    found = []
    for name in NAMES:
        data_dir = folder / name
        folder_of(data_dir, site, name, servers)

        def place(name: str = name, data_dir: Path = data_dir) -> Place:
            return place_of(data_dir / "cluster", name, ISSUER.seed)

        found.append(NatsServer(BrokerConfig(mqtt="127.0.0.1:0"), data_dir, ISSUER.public, 256 * MIB, clock, place))
    tasks = [asyncio.create_task(server.run()) for server in found]
    try:
        yield found
    finally:
        await cancel_and_wait(*tasks)


@pytest.mark.asyncio
async def test_three_servers_that_find_the_file_are_one_and_all_streams_follow_the_log(tmp_path: Path) -> None:
    async with three(tmp_path) as servers:
        async with asyncio.timeout(60):
            await asyncio.gather(*(server.ready.wait() for server in servers))
        assert [(server.place.name, server.place.replicas) for server in servers] == [(name, 3) for name in NAMES]
        first = servers[0]
        client = await WireClient.connect(first.host, first.port, first.user, first.password, "test")

        await made(client, log_plan(64 * MIB, replicas=3), *(bucket_plan("skerry_test", size * MIB) for size in (8, 16)))
        for name in (LOG, "KV_skerry_test"):
            info = await api(client, f"STREAM.INFO.{name}")
            assert info["config"]["num_replicas"] == 3
        client.close()
