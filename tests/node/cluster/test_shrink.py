"""Whether a node may be taken out, and when too few are left: pure; streams of three real servers that come to one."""

from pathlib import Path

import pytest

from skerry.broker import LOG, MIB, WireClient, api, log_plan, saved_streams, stream_state, whole
from skerry.cluster import Servers
from skerry.core.errors import RejectedError, UnavailableError
from skerry.node.cluster.shrink import Fewer, copy_frozen, judge_copies, judge_removal, set_longest, to_one, too_few
from tests.fixtures.nats import put, until
from tests.fixtures.nats_cluster import Servers as Running
from tests.fixtures.nats_cluster import made

THREE = Servers("s", 3, tuple((name, "10.0.0.1:1") for name in "abc"))
FIVE = Servers("s", 3, tuple((name, "10.0.0.1:1") for name in "abcde"))
ONLINE, OFFLINE = ("Online", "node"), ("Offline", "node")


@pytest.mark.parametrize(
    ("servers", "gone", "few"),
    [(THREE, [], False), (THREE, ["c"], True), (FIVE, ["c"], False), (FIVE, ["a", "b"], False), (FIVE, ["a", "b", "c"], True)],
)
def test_when_too_few_are_left(servers: Servers, gone: list[str], few: bool) -> None:
    assert too_few(servers, gone) == few


def test_who_may_be_taken_out() -> None:
    judge_removal("c", {"a": ONLINE, "b": ONLINE, "c": ONLINE}, THREE)
    judge_removal("c", {"a": ONLINE, "b": ONLINE, "c": OFFLINE}, THREE)
    judge_removal("b", {"a": ONLINE, "b": ("Joining", "node")}, None)
    judge_removal("c", {"a": ONLINE, "b": ("Online", "witness"), "c": ONLINE}, THREE)


@pytest.mark.parametrize(
    ("node", "roles", "servers", "words"),
    [
        ("c", {"a": ONLINE, "b": OFFLINE, "c": ONLINE}, THREE, "1 of 3 servers, and no quorum"),
        ("a", {"a": ONLINE, "b": ("Joining", "node")}, None, "no node would be left"),
        ("a", {"a": ONLINE, "b": ("Online", "witness")}, None, "no node would be left"),
        ("e", {"a": ONLINE, "b": ONLINE, "c": OFFLINE, "d": OFFLINE, "e": ONLINE}, FIVE, "2 of 5 servers, and no quorum"),
    ],
)
def test_who_may_not(node: str, roles: dict[str, tuple[str, str]], servers: Servers | None, words: str) -> None:
    with pytest.raises(RejectedError, match=words):
        judge_removal(node, roles, servers)


async def filled(servers: Running) -> WireClient:
    """A connection to the first of three servers that have 50 messages each."""
    await until(lambda: all(len(each.routes()) == 2 for each in servers.all), 60)
    client = await servers.all[0].client()

    await made(client, log_plan(64 * MIB, replicas=3))
    for at in range(50):
        await put(client, "$MQTT.msgs.devices.a.x", b"%d" % at)
    await until(lambda: whole(client, 3), 60)
    return client


async def reader_at(client: WireClient, server: str) -> bool:
    """Make consumers of the log, kept by one server each, until one is kept by this one."""
    for at in range(50):
        config = {"name": f"c{at}", "ack_policy": "none", "num_replicas": 1, "inactive_threshold": 300 * 10**9}
        made = await api(client, f"CONSUMER.CREATE.{LOG}.c{at}", {"stream_name": LOG, "config": config})
        if made["cluster"]["leader"] == server:
            return True
    return False


@pytest.mark.timeout(240)
@pytest.mark.asyncio
async def test_streams_come_to_who_keeps_them_when_the_third_is_gone_already(tmp_path: Path) -> None:
    with Running(tmp_path, 3) as servers:
        client = await filled(servers)
        leader = await servers.leader_of(client, LOG)
        keeper, third = (each for each in servers.all if each is not leader)
        assert await reader_at(client, third.plan.name), "a reader that went with its server does not hold the stream up"
        client.close()
        third.kill()
        client = await keeper.client()

        async def behind() -> bool:
            replicas = (await api(client, f"STREAM.INFO.{LOG}"))["cluster"]["replicas"]
            return any(each["name"] == third.plan.name and not each["current"] for each in replicas)

        await put(client, "$MQTT.msgs.devices.a.x", b"50")
        await until(behind, 60)
        await to_one(client, keeper.plan.name)
        info = await api(client, f"STREAM.INFO.{LOG}")
        assert (info["cluster"]["leader"], info["config"]["num_replicas"]) == (keeper.plan.name, 1)
        assert (await stream_state(client, LOG))["messages"] == 51
        client.close()


@pytest.mark.timeout(240)
@pytest.mark.asyncio
async def test_streams_come_to_one_server_and_take_nothing_while_they_are_copied(tmp_path: Path) -> None:
    with Running(tmp_path, 3) as servers:
        client = await filled(servers)
        info = await api(client, f"STREAM.INFO.{LOG}")
        name = info["cluster"]["replicas"][0]["name"]  # not the one that leads it now
        await judge_copies(client, info["cluster"]["leader"])
        longest = await to_one(client, name)
        info = await api(client, f"STREAM.INFO.{LOG}")
        assert (info["cluster"]["leader"], info["config"]["num_replicas"]) == (name, 1)
        with pytest.raises(RejectedError, match="not yet whole on the others"):
            await judge_copies(client, name)
        plan = Fewer(name, 2, (), longest)
        await copy_frozen(client, name, plan, tmp_path / "copy")
        assert await put(client, "$MQTT.msgs.devices.a.x", b"too late") == 0, "it was refused"
        assert (await stream_state(client, LOG))["last_seq"] == 50
        saved = saved_streams(tmp_path / "copy")
        assert saved is not None
        assert [(each.name, each.messages, each.about["config"]["max_msg_size"]) for each in saved] == [(LOG, 50, longest[LOG])]
        await set_longest(client, longest, frozen=False)
        assert await put(client, "$MQTT.msgs.devices.a.x", b"in time") == 51
        with pytest.raises(UnavailableError, match="another stream was made"):
            await copy_frozen(client, name, Fewer(name, 2, (), {**longest, "gone": -1}), tmp_path / "copy")
        client.close()
