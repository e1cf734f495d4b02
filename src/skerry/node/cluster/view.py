"""The cluster as the API sees it: fills `skerry.api.ClusterView`, keeps the last changes, and counts for the metrics."""

import asyncio
from collections import Counter, deque
from typing import Any

import msgspec

from skerry.cluster import Change, ClusterManager, EdgeNode, JoinPort, NodeStatus
from skerry.core.clock import Clock, to_rfc3339
from skerry.core.errors import RejectedError, UnavailableError
from skerry.core.service import beat
from skerry.node.cluster.growth import Growth
from skerry.node.cluster.member import NodeCluster

Row = dict[str, Any]
MOST_CHANGES = 256
DRAIN_S, LOOK_S = 60.0, 0.1
_MEND = "set [cluster] enabled = true and start the node again"


class ClusterLink:
    """What commands of people and of programs do. They raise `RejectedError` on a node that is in no cluster."""

    def __init__(self, cluster: NodeCluster, growth: Growth, clock: Clock) -> None:
        self._cluster = cluster
        self._growth = growth
        self._clock = clock
        self._changes: deque[Row] = deque(maxlen=MOST_CHANGES)
        self._count = 0
        cluster.listeners.append(self._keep)

    def _keep(self, change: Change) -> None:
        self._count += 1
        self._changes.append({"sequence": self._count, "at": to_rfc3339(self._clock.now()), **msgspec.structs.asdict(change)})

    @property
    def _manager(self) -> ClusterManager:
        if self._cluster.manager is None:
            raise RejectedError("this node is in no cluster", where="cluster.enabled", mend=_MEND)
        return self._cluster.manager

    @property
    def _port(self) -> JoinPort:
        if self._cluster.join_port is None:
            raise RejectedError("this node is in no cluster", where="cluster.enabled", mend=_MEND)
        return self._cluster.join_port

    @property
    def _heard(self) -> ClusterManager:
        """The manager, where what is asked of it can be done. Raises `UnavailableError` at once where a quorum is long gone."""
        manager = self._manager
        if self._cluster.lost:
            raise UnavailableError(
                f"there is no quorum since {self._cluster.no_quorum_text}: nothing is changed",
                where="cluster",
                mend="start the other nodes; `skerry doctor` says which do not answer",
            )
        return manager

    def shown(self) -> Row:
        found = self._cluster.status()
        return {"enabled": False, "sentence": "one node, no cluster"} if found is None else found | self._growth.status()

    def members(self) -> list[Row]:
        manager = self._manager
        return [self._row(node, manager) for node in self._cluster.members()]

    def _row(self, node: EdgeNode, manager: ClusterManager) -> Row:
        runs = [unit for unit, holder in manager.holders().items() if holder == node.id]
        return {
            "id": node.id,
            "address": node.address,
            "status": str(node.status),
            "role": node.role,
            "reason": node.reason,
            "leader": node.id == manager.leader,
            "capabilities": list(node.capabilities),
            "resources": msgspec.structs.asdict(node.resources),
            "version": node.version,
            "site": node.site,
            "started": to_rfc3339(node.started) if node.started else None,
            "partitions": runs,
        }

    def leader(self) -> Row:
        manager = self._manager
        return {"leader": manager.leader, "epoch": manager.epoch, "no_quorum_since": self._cluster.no_quorum_text}

    def changes(self, after: int) -> Row:
        self._manager  # noqa: B018 - raises where there is no cluster
        # a number of another life of the node is none of this one
        found = [row for row in self._changes if after > self._count or row["sequence"] > after]
        return {"changes": found, "next": self._count}

    async def token(self, seconds: float) -> Row:
        self._heard  # noqa: B018 - raises where there is no quorum
        return {"token": await self._port.new_token(seconds), "expires_in": round(seconds)}

    def pending(self) -> list[Row]:
        return [msgspec.structs.asdict(each) for each in self._port.pending()]

    def approve(self, node: str, code: str) -> None:
        self._port.approve(node, code)

    async def drain(self, node: str) -> None:
        await self._heard.drain(node)

    async def resume(self, node: str) -> None:
        await self._heard.resume(node)

    async def remove(self, node: str) -> None:
        manager = self._heard
        if node == self._cluster.name:
            raise RejectedError("a node does not take itself out", where="cluster", mend="ask another member")
        await self._growth.judge_removal(node)
        if any(each.id == node and each.status != NodeStatus.OFFLINE for each in manager.members()):
            await self._drained(manager, node)
        await manager.remove(node)
        await self._growth.remove(node)

    async def _drained(self, manager: ClusterManager, node: str) -> None:
        """Have all that a node does done elsewhere first. Raises `UnavailableError` where that takes too long."""
        await manager.drain(node)
        try:
            async with asyncio.timeout(DRAIN_S):
                while not manager.idle(node):
                    await beat(LOOK_S)
        except TimeoutError as error:
            raise UnavailableError(
                f"{node} did not give its work away within {DRAIN_S:g} s", where="cluster",
                mend="see who has room for it; `skerry cluster resume` gives it work again",
            ) from error  # fmt: skip

    def promote(self) -> Row:
        self._manager  # noqa: B018 - raises where there is no cluster
        copied = self._growth.status()
        self._growth.promote()
        return {"promoted": True, "copied": copied["copied"], "behind": copied["behind"]}

    async def step_down(self) -> Row:
        manager = self._heard
        if not await manager.step_down():
            raise UnavailableError("nobody leads now", where="cluster", mend="try again in some seconds")
        return {"stepped_down": True, "epoch": manager.epoch}


def members_by_status(cluster: NodeCluster) -> dict[str, int]:
    """How many members have each status."""
    found = Counter(str(node.status) for node in cluster.members())
    return {str(status): found[str(status)] for status in NodeStatus}
