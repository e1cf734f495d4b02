"""What members share: made once by who founds a cluster, given to who joins, and then the same on both."""

import asyncio
from pathlib import Path

import pytest

from skerry.cluster import ClusterConfig, ClusterManager, JoinPort, Shared, certificate_files, equip, found, has_joined, join
from skerry.core.clock import SystemClock
from skerry.core.errors import CorruptError
from skerry.trust import ServerTls, SiteAuthority, load_or_create, signed_by
from tests.fixtures.certificates import Site

CLOCK = SystemClock()


def config(name: str, address: str) -> ClusterConfig:
    return ClusterConfig(name, site="quay", address=address, discovery="seeds")


@pytest.mark.asyncio
async def test_who_joins_has_what_the_founder_has(tmp_path: Path, free_port: int) -> None:
    first, second = tmp_path / "a", tmp_path / "b"
    address = f"127.0.0.1:{free_port}"
    issuer = load_or_create(first / "keys" / "issuer.seed")
    joined = await asyncio.to_thread(found, config("a", address), first, CLOCK)
    shared = equip(first)
    assert shared is not None
    assert shared.issuer == issuer.seed  # what it had before stays good
    tls = ServerTls(certificate_files(first), CLOCK)
    async with ClusterManager(config("a", address)) as cluster:
        await cluster.elect_leader()
        port = JoinPort(
            config("a", address), cluster, shared.authority, shared.tokens, lambda: tls.context, lambda: joined.share, CLOCK
        )
        async with port:
            await port.listen("127.0.0.1", free_port)
            await join(config("b", "127.0.0.1:7444"), second / "cluster", token=port.new_token())
    theirs = equip(second)
    assert theirs is not None
    assert (theirs.issuer, theirs.routes, theirs.authority) == (shared.issuer, shared.routes, shared.authority)
    assert theirs.tokens.public == shared.tokens.public
    assert load_or_create(second / "keys" / "issuer.seed").public == issuer.public
    authority = SiteAuthority(second / "tls").load()
    assert authority == shared.authority
    assert signed_by(certificate_files(second).cert.read_bytes(), authority.certificate)


def test_founding_twice_is_once(tmp_path: Path) -> None:
    first = found(config("a", "127.0.0.1:7443"), tmp_path, CLOCK)
    assert found(config("a", "127.0.0.1:7443"), tmp_path, CLOCK) == first == has_joined(tmp_path / "cluster")
    assert "KEY" not in repr(first)
    kept = [*(tmp_path / "cluster").iterdir(), tmp_path / "keys" / "issuer.seed", tmp_path / "tls" / "ca.key"]
    assert [file.name for file in kept if file.stat().st_mode & 0o077] == []


def test_a_node_alone_is_left_as_it_is(tmp_path: Path) -> None:
    assert equip(tmp_path) is None
    assert list(tmp_path.iterdir()) == []


def test_a_ca_of_its_own_is_kept_beside(tmp_path: Path) -> None:
    joined = found(config("a", "127.0.0.1:7443"), tmp_path / "a", CLOCK)
    own = Site(tmp_path / "b" / "tls", CLOCK.now())
    before = own.authority.load()
    (tmp_path / "a" / "cluster").rename(tmp_path / "b" / "cluster")
    equip(tmp_path / "b")
    equip(tmp_path / "b")
    assert own.authority.load() == Shared(joined.share).authority
    assert (tmp_path / "b" / "tls" / "ca.key.before").read_bytes() == before.key


def test_what_is_not_whole_is_told(tmp_path: Path) -> None:
    joined = found(config("a", "127.0.0.1:7443"), tmp_path, CLOCK)
    for name in joined.share:
        with pytest.raises(CorruptError, match="not whole"):
            Shared({each: text for each, text in joined.share.items() if each != name})
