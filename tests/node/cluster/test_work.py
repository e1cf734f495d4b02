"""What the cluster gives a node runs in its workers: spread, drained, taken over from one that stands still, and nothing twice."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import pytest

from skerry.broker import Bucket, WireClient, bucket_plan, ensure
from skerry.cluster import ClusterConfig, ClusterManager, EdgeNode, MemoryLeases, NodeStatus, Partition
from skerry.core.clock import SystemClock
from skerry.core.service import cancel_and_wait
from skerry.node.cluster import Floor, Work, while_leading
from skerry.node.cluster.floor import lowest
from skerry.node.cluster.work import lacking, places
from skerry.pipeline import CheckpointStore, begin_checkpoints
from skerry.worker import WorkerPool
from tests.fixtures.nats import NatsServer, put, until
from tests.worker.test_units import A_WINDOW, ALL, PARTITIONS, SLOW_S, Load, all_came, pooled, prepared


class Member(ClusterManager):
    """A member of a cluster whose records are in memory, with its workers."""

    enabled = True


class Box:
    """A node as far as its work goes; `stop_agent` is what a SIGSTOP of all but its worker's process would be."""

    def __init__(self, cluster: Member, pool: WorkerPool) -> None:
        self.cluster, self.pool = cluster, pool
        self.work = Work(cluster, lambda: pool, SystemClock())
        self.tasks = [asyncio.create_task(cluster.run()), asyncio.create_task(self.work.run())]

    @property
    def units(self) -> list[str]:
        return [unit for worker in self.pool.workers for unit in worker.report.units]

    async def stop_agent(self) -> None:
        await cancel_and_wait(*self.tasks)


@asynccontextmanager
async def box(server: NatsServer, folder: Path, name: str, leases: MemoryLeases, more: tuple[str, ...] = ()) -> AsyncIterator[Box]:
    config = ClusterConfig(name, discovery="seeds")
    async with pooled(server, folder, name) as pool:
        found = Box(Member(config, partitions=[Partition(unit) for unit in [*ALL, *more]], leases=leases), pool)
        try:
            yield found
        finally:
            await found.stop_agent()


@pytest.mark.asyncio
async def test_what_the_configuration_of_a_node_has_not_does_not_run_there_and_ends_nothing(
    server: NatsServer, tmp_path: Path
) -> None:
    async with prepared(server), box(server, tmp_path, "one", MemoryLeases(), ("strange/0",)) as one:
        await until(lambda: sorted(one.units) == ALL, SLOW_S)
        await until(lambda: "strange/0" in one.cluster.mine(), SLOW_S)
        assert one.pool.workers[0].restarts.total == 0


@pytest.mark.asyncio
async def test_work_is_spread_drained_and_taken_over_and_every_window_comes_once(server: NatsServer, tmp_path: Path) -> None:
    leases = MemoryLeases()
    async with AsyncExitStack() as stack:
        client = await stack.enter_async_context(prepared(server))
        one = await stack.enter_async_context(box(server, tmp_path, "one", leases))
        other = await stack.enter_async_context(box(server, tmp_path, "other", leases))
        load = Load(client)
        loading = asyncio.create_task(load.run())
        await until(lambda: sorted(one.units + other.units) == ALL, SLOW_S)
        await other.cluster.drain("one")
        await until(lambda: other.units == ALL and one.units == [], SLOW_S)
        await one.cluster.resume("one")
        await other.cluster.drain("other")
        await until(lambda: one.units == ALL and other.units == [], SLOW_S)
        await other.cluster.resume("other")

        os.kill(one.pool.workers[0].pid or 0, signal.SIGSTOP)
        await one.stop_agent()
        await until(lambda: other.units == ALL, SLOW_S)
        before = load.sent
        await until(lambda: load.sent > before + A_WINDOW, SLOW_S)
        os.kill(one.pool.workers[0].pid or 0, signal.SIGCONT)
        await until(lambda: "lease" in one.pool.workers[0].report.waiting, SLOW_S)
        assert one.units == ALL, "it takes them for its own, and does nothing with them"
        await load.finish(loading)
        await all_came(client, load)


@pytest.mark.asyncio
async def test_the_log_is_held_by_every_unit_and_by_readers_of_nodes_that_are_there(server: NatsServer) -> None:
    leases = MemoryLeases()
    async with AsyncExitStack() as stack:
        client = await stack.enter_async_context(prepared(server))
        await ensure(client, bucket_plan("floors", 1 << 20))
        for _ in range(20):
            await put(client, "$MQTT.msgs.devices.d.v", b"1")
        one = await stack.enter_async_context(Member(ClusterConfig("one", discovery="seeds"), leases=leases))
        await stack.enter_async_context(Member(ClusterConfig("other", discovery="seeds"), leases=leases))
        await until(lambda: one.leads and len(one.members()) == 2, SLOW_S)
        pipelines, own = ["p"], 9
        floor = Floor("one", one, "floors", lambda: (pipelines, PARTITIONS), lambda: own)
        following = asyncio.create_task(floor.run(client))
        try:
            await until(lambda: floor.lowest() == 0, SLOW_S)
            for at in range(PARTITIONS):
                await _move(client, at, 10 + at)
            await until(lambda: floor.lowest() == 9, SLOW_S)
            own = 15
            await until(lambda: floor.lowest() == 10, SLOW_S)
            await Bucket(client, "floors").set("floor.other", b"7")
            await until(lambda: floor.lowest() == 7, SLOW_S)
            await Bucket(client, "floors").set("floor.gone", b"3")
            await asyncio.wait([following], timeout=2.5)
            assert floor.lowest() == 7, "a node that is no member holds nothing"
            pipelines.append("new")
            assert floor.lowest() is None, "one that has no checkpoint yet may need all"
            await begin_checkpoints(client, ["new"], PARTITIONS, 5)
            await until(lambda: floor.lowest() == 5, SLOW_S)
        finally:
            await cancel_and_wait(following)


async def _move(client: WireClient, partition: int, cursor: int) -> None:
    store = CheckpointStore("p", partition, PARTITIONS)
    await store.load(client)
    await store.save(client, b"state", cursor)


@pytest.mark.asyncio
async def test_what_only_the_leader_does_goes_with_the_office() -> None:
    leases, running = MemoryLeases(), []

    async def work(name: str) -> None:
        running.append(name)
        try:
            await asyncio.Event().wait()
        finally:
            running.remove(name)

    async with AsyncExitStack() as stack:
        members = [Member(ClusterConfig(name, discovery="seeds"), leases=leases) for name in ("one", "other")]
        for member in members:
            await stack.enter_async_context(member)
        tasks = [
            asyncio.create_task(while_leading(each, lambda name=name: work(name)))
            for each, name in zip(members, ("one", "other"), strict=True)
        ]
        try:
            await until(lambda: len(running) == 1, SLOW_S)
            first = running[0]
            await members[0].drain(first)
            await until(lambda: running not in ([], [first]), SLOW_S)
            assert len(running) == 1
        finally:
            await cancel_and_wait(*tasks)
        assert running == []


def test_the_lowest_of_cursors_is_known_when_all_are() -> None:
    assert lowest([3, 2]) == 2
    assert lowest([3, None]) is None
    assert lowest([]) is None


def test_places_are_told_by_node() -> None:
    assert places({"p/1": "b", "p/0": "b", "p/2": "a", "q/0": "a"}, "p") == {"a": [2], "b": [0, 1]}


def test_who_lacks_what_is_said() -> None:
    def node(name: str, status: NodeStatus, *has: str) -> EdgeNode:
        return EdgeNode(name, "", status, has)

    plain, camera = node("n1", NodeStatus.ONLINE), node("n2", NodeStatus.ONLINE, "camera", "lamp")
    assert lacking((), (), [plain]) == lacking(("lamp",), (), [plain, camera]) == lacking((), (), []) == ""
    assert lacking(("gpu",), ("gpu",), [plain]).startswith("needs capability 'gpu', which no member has; [node] capabilities ")
    gone = [plain, node("n2", NodeStatus.OFFLINE, "lamp"), node("n3", NodeStatus.MAINTENANCE, "lamp")]
    assert lacking(("lamp",), (), gone) == "needs capability 'lamp', which only n2 (Offline), n3 (Maintenance) has"
    alone = "needs capabilities 'gpu', 'lamp', and [node] capabilities of this node names lamp"
    assert (lacking(("gpu", "lamp"), ("lamp",), []), lacking(("lamp",), ("lamp",), [])) == (alone, "")
