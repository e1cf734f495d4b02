"""The work of a node in a cluster: what it is given runs in its workers, for as long as its lease holds, and nowhere else."""

import asyncio
import math
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Protocol

from skerry.cluster import EdgeNode, NodeStatus
from skerry.core import log
from skerry.core.clock import Clock
from skerry.core.service import beat, cancel_and_wait
from skerry.pipeline import parse_unit
from skerry.worker import WorkerPool

STEP_S = 0.1
LOOK_S = 0.25
_log = log.get("cluster")


class Placed(Protocol):
    """What is asked of the cluster."""

    enabled: bool

    @property
    def leads(self) -> bool: ...

    @property
    def lease_until(self) -> float: ...

    def mine(self) -> frozenset[str]: ...

    def hold(self, unit: str) -> bool: ...

    def let_go(self, unit: str) -> None: ...


class Work:
    """Carries what the cluster decides to the workers, and what they have stored and stopped back to the cluster.

    Args:
        pool: answers the pool of now: another configuration has another one.
    """

    def __init__(self, cluster: Placed, pool: Callable[[], WorkerPool], clock: Clock) -> None:
        self._cluster = cluster
        self._pool = pool
        self._clock = clock
        self._held: set[str] = set()
        self._strange: set[str] = set()
        self._told: tuple[WorkerPool | None, float] = (None, -math.inf)
        self._stopping = False

    async def run(self) -> None:
        """Follow the cluster until cancelled; nothing to do on a node alone."""
        while self._cluster.enabled and not self._stopping:
            await self.step()
            await asyncio.sleep(STEP_S)

    async def step(self) -> None:
        """Bring the workers to what the cluster says now.

        A lease that has ended pauses the workers, by themselves: it may be renewed. Where there is none any more another node has
        fenced this one, and what the workers know counts no longer.
        """
        cluster, pool, until = self._cluster, self._pool(), self._cluster.lease_until
        if (pool, until) != self._told:
            self._told = (pool, until)
            await pool.extend(max(0.0, until))
        if self._stopping:
            return
        if self._clock.monotonic() < until:
            wanted = {unit for unit in cluster.mine() if self._knows(unit) and cluster.hold(unit)}
        elif math.isinf(until):
            wanted = set()
        else:
            return
        self._held |= wanted
        await pool.run_units(wanted)
        held = pool.held()
        for unit in self._held - held:
            cluster.let_go(unit)
        self._held = held | wanted

    def _knows(self, unit: str) -> bool:
        """Whether the configuration of this node has it; what it has not would end the worker, and all else that runs there."""
        known = parse_unit(unit)[0] in self._pool().pipelines
        if not known and unit not in self._strange:
            self._strange.add(unit)
            _log.error(
                f"the cluster gives this node {unit}, which its configuration has not: it does not run until it has, or is drained"
            )
        return known

    def stopped(self) -> None:
        """The workers have been drained, and nothing is to run here any more: others may have it at once."""
        self._stopping = True
        for unit in self._held:
            self._cluster.let_go(unit)
        self._held = set()


async def while_leading(cluster: Placed, run: Callable[[], Awaitable[None]]) -> None:
    """Run what only one node may do while this one leads; ends with it, or when cancelled. On a node alone that is always."""
    if not cluster.enabled:
        await run()
        return
    while True:
        while not cluster.leads:
            await beat(LOOK_S)
        task = asyncio.ensure_future(run())
        try:
            if await _until_led_by_another(cluster, task):
                return
        finally:
            await cancel_and_wait(task)


async def _until_led_by_another(cluster: Placed, task: "asyncio.Future[None]") -> bool:
    """Whether the task has ended before that."""
    while cluster.leads:
        if task.done():
            task.result()
            return True
        await asyncio.wait([task], timeout=LOOK_S)
    return False


def places(holders: Mapping[str, str], pipeline: str) -> dict[str, list[int]]:
    """By node, the partitions of a pipeline that it runs."""
    found: dict[str, list[int]] = {}
    for unit, node in holders.items():
        name, partition = parse_unit(unit)
        if name == pipeline:
            found.setdefault(node, []).append(partition)
    return {node: sorted(parts) for node, parts in sorted(found.items())}


def lacking(wanted: Sequence[str], own: Sequence[str], members: Sequence[EdgeNode]) -> str:
    """Who would have to have which capabilities, in a sentence; empty where there is a node that has them.

    Args:
        own: those of this node, which counts where it is in no cluster: then there are no members.
    """
    names = ", ".join(map(repr, wanted))
    needs = f"needs capabilit{'y' if len(wanted) == 1 else 'ies'} {names}"
    if not members:
        missing = set(wanted) - set(own)
        return f"{needs}, and [node] capabilities of this node names {', '.join(own) or 'none'}" if missing else ""
    able = [node for node in members if set(wanted) <= set(node.capabilities)]
    if not able:
        return f"{needs}, which no member has; [node] capabilities says what a node has"
    if any(node.status in (NodeStatus.ONLINE, NodeStatus.SUSPECT) for node in able):
        return ""
    return f"{needs}, which only {', '.join(f'{node.id} ({node.status})' for node in able)} has"
