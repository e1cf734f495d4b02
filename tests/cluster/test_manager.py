"""`ClusterManager` in programs: alone, with others in one process, and over a real nats-server."""

import asyncio
from collections.abc import AsyncIterator, Callable

import pytest
import pytest_asyncio

from skerry import ClusterConfig, ClusterManager, EdgeNode, NodeStatus, ResourceUsage
from skerry.cluster import Change, MemoryLeases, Partition, Timing
from skerry.cluster import manager as manager_module
from skerry.core.clock import ManualClock
from skerry.core.errors import ConfigError, OverloadedError, RejectedError, UnavailableError
from tests.fixtures.nats import NatsServer, until

QUICK = Timing(beat=0.1, suspect=0.4, lease=0.9, offline=1.0, calm=0.5)
WORK = [Partition("p/0"), Partition("p/1"), Partition("g/0", ("gpu",))]
Start = Callable[..., ClusterManager]


@pytest_asyncio.fixture
async def start() -> AsyncIterator[Start]:
    """Starts managers over one store; ends those that are left."""
    leases, running = MemoryLeases(), list[ClusterManager]()

    def begin(node: str, **options: object) -> ClusterManager:
        config = ClusterConfig(node, timing=QUICK, **options)  # type: ignore[arg-type]  # options of the test, by name
        running.append(ClusterManager(config, partitions=WORK, leases=leases))
        return running[-1]

    yield begin
    for each in running:
        await each.close()


def work(*clusters: ClusterManager) -> None:
    """What a program does each time it looks: runs what it may, lets go of the rest."""
    for cluster in clusters:
        for partition in WORK:
            if not cluster.hold(partition.name):
                cluster.let_go(partition.name)


@pytest.mark.asyncio
async def test_alone_it_is_a_cluster_of_one() -> None:
    async with ClusterManager(ClusterConfig("a", capabilities=("gpu",), resources=ResourceUsage(memory=8))) as cluster:
        assert await cluster.elect_leader() == "a"
        assert (cluster.leader, cluster.leads, cluster.epoch) == ("a", True, 1)
        (me,) = cluster.members()
        assert isinstance(me, EdgeNode)
        assert (me.id, me.status, me.capabilities, me.resources.memory) == ("a", NodeStatus.ONLINE, ("gpu",), 8)
        assert me.started > 1_600_000_000_000_000
        cluster.place(WORK)
        await until(lambda: cluster.mine() == {"p/0", "p/1", "g/0"})
        assert cluster.ready.is_set()
        assert cluster.status == "1 of 1 nodes are online; a leads"
    assert cluster.status == "not running"
    assert cluster.leader is None
    await cluster.close()


@pytest.mark.asyncio
async def test_work_goes_where_it_may_and_drain_moves_it(start: Start) -> None:
    async with start("a") as a, start("b", capabilities=("gpu",)) as b:
        await until(lambda: len(a.holders()) == 3)
        assert a.holders()["g/0"] == "b"
        await until(lambda: {*a.mine(), *b.mine()} == {"p/0", "p/1", "g/0"})
        work(a, b)
        await b.drain("a")
        await until(lambda: a.leader == "b")
        assert a.holders()["p/0"] == "a", "it is still held"
        await until(lambda: work(a, b) or set(b.holders().values()) == {"b"})
        assert [str(node.status) for node in b.members()] == ["Maintenance", "Online"]
        assert a.mine() == frozenset()
        assert not a.hold("p/0")
        await a.resume("a")
        await until(lambda: work(a, b) or set(a.holders().values()) == {"a", "b"}, 20)
        assert a.unplaced() == []


@pytest.mark.asyncio
async def test_who_leaves_in_order_is_not_waited_for(start: Start) -> None:
    a, b = start("a"), start("b")
    async with a:
        async with b:
            await until(lambda: len(a.members()) == 2)
        await until(lambda: a.members()[1].reason == "it was stopped")
        assert a.members()[1].status == NodeStatus.OFFLINE
        with pytest.raises(RejectedError, match="there is no node 'x'"):
            await a.drain("x")
        with pytest.raises(RejectedError, match="a is there and works"):
            await a.remove("a")
        assert not a.removed("b")
        await a.remove("b")
        assert (a.removed("b"), a.removed("a"), a.removed("x")) == (True, False, False)
        assert [node.id for node in a.members()] == ["a"]


@pytest.mark.asyncio
async def test_who_takes_no_work_is_joining_and_does_not_lead(start: Start) -> None:
    a, b = start("a"), start("b")
    a.take_work(False)
    async with a:
        await until(lambda: [node.status for node in a.members()] == [NodeStatus.JOINING])
        async with b:
            assert await b.elect_leader() == "b"
            a.take_work(True)
            await until(lambda: [node.status for node in b.members()] == [NodeStatus.ONLINE, NodeStatus.ONLINE])


@pytest.mark.asyncio
async def test_watch_tells_all_in_order(start: Start) -> None:
    told: list[tuple[str, str, str]] = []

    async def listen(cluster: ClusterManager) -> None:
        async for change in cluster.watch():
            assert isinstance(change, Change)
            told.append((change.kind, change.node, change.after))

    async with start("a") as a:
        await a.elect_leader()
        task = asyncio.create_task(listen(a))
        async with start("b") as b:
            await until(lambda: ("joined", "b", "Online") in told)
            await b.drain("b")
            await until(lambda: ("status", "b", "Maintenance") in told)
        await until(lambda: ("status", "b", "Offline") in told)
        assert told[:2] == [("joined", "a", "Online"), ("leader", "a", "a")]
        assert await a.step_down()
        await until(lambda: a.epoch == 2 and a.leads)
        task.cancel()


@pytest.mark.asyncio
async def test_who_leads_steps_down_wherever_it_is_asked(start: Start) -> None:
    async with start("a") as a:
        await a.elect_leader()
        async with start("b") as b:
            await until(lambda: b.leader == "a" and [node.status for node in a.members()] == [NodeStatus.ONLINE] * 2)
            assert await b.step_down(), "b asks, a does it"
            await until(lambda: a.leader == b.leader == "b")
            assert await b.step_down()
            await until(lambda: a.leader == b.leader == "a")
            assert a.epoch == 3


@pytest.mark.asyncio
async def test_a_watch_that_is_not_read_ends(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(manager_module, "MOST_WAITING", 2)
    async with start("a") as a:
        await a.elect_leader()
        watching = a.watch()
        assert (await anext(watching)).kind == "joined"
        for _ in range(2):
            await a.drain("a")
            await a.resume("a")
        with pytest.raises(OverloadedError, match="were not read"):
            await anext(watching)


@pytest.mark.asyncio
async def test_a_name_that_is_taken_is_told(start: Start) -> None:
    async with start("a", instance="first") as a, start("a", instance="second") as second:
        await a.elect_leader()
        await until(lambda: second.status == "another node is called a; give this one another name")
        assert not second.ready.is_set()
        with pytest.raises(UnavailableError, match=r"nobody leads after 0\.3 s: another node is called a"):
            await second.elect_leader(0.3)


@pytest.mark.asyncio
async def test_without_its_server_it_pauses_and_goes_on(server: NatsServer) -> None:
    (await server.client()).close()
    config = ClusterConfig("a", servers=(f"127.0.0.1:{server.port}",), user="agent", password="pw", timing=QUICK)
    async with ClusterManager(config, partitions=WORK[:2]) as cluster:
        assert await cluster.elect_leader() == "a"
        await until(lambda: len(cluster.mine()) == 2)
        server.kill()
        await until(lambda: cluster.mine() == frozenset())
        (me,) = cluster.members()
        assert me.status == NodeStatus.SUSPECT
        assert me.reason.startswith("no quorum for")
        assert cluster.leader is None
        with pytest.raises(UnavailableError):
            await cluster.elect_leader(0.2)
        server.start()
        await until(lambda: len(cluster.mine()) == 2, 30)
        assert cluster.epoch == 1, "nobody has fenced it: all is still its own"


WRONG: list[dict[str, object]] = [{"replicas": 2}, {"seeds": ("x",)}, {"servers": ("a:b",)}, {"address": "nowhere"}]


@pytest.mark.parametrize("wrong", WRONG, ids=lambda wrong: next(iter(wrong)))
def test_what_a_configuration_must_not_say(wrong: dict[str, object]) -> None:
    with pytest.raises(ConfigError):
        ClusterConfig("a", **wrong)  # type: ignore[arg-type]  # what is wrong is meant
    with pytest.raises(ConfigError, match="no name for a node"):
        ClusterConfig("a b")


def test_passwords_are_not_shown() -> None:
    assert "secret" not in repr(ClusterConfig("a", user="u", password="secret"))


@pytest.mark.asyncio
async def test_time_comes_from_the_clock() -> None:
    clock = ManualClock(5)
    async with ClusterManager(ClusterConfig("a"), clock=clock) as cluster:
        await cluster.elect_leader()
        clock.advance(60_000_000)
        assert cluster.leader is None
        assert cluster.members()[0].started == 5
