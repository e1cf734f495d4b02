"""The node as one of a cluster: a member that others see, a port where they join, what it may run. Inert when disabled."""

import asyncio
import math
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import msgspec

from skerry.broker import NatsServer
from skerry.cluster import Change, ClusterManager, EdgeNode, Joined, JoinPort, NodeStatus, Partition, Role
from skerry.config import NodeConfig
from skerry.core import log
from skerry.core.clock import SECOND, Clock, to_rfc3339
from skerry.core.errors import SkerryError, UnavailableError
from skerry.core.service import Backoff, beat, cancel_and_wait
from skerry.device import AuditLog
from skerry.node.cluster.founding import (
    cluster_config,
    cluster_folder,
    cluster_tls,
    listen_address,
    note_removal,
    prepare,
    ticket_file,
)
from skerry.node.cluster.known import read_known, write_known
from skerry.node.cluster.placed import PlacedLeases, RecordsPlace
from skerry.node.cluster.shared import shared
from skerry.node.cluster.work import lacking, places
from skerry.node.tls import judge, site_authority
from skerry.pipeline import PipelineSpec, unit_name
from skerry.trust import RENEW_DAYS, ServerTls, SigningKey

QUORUM_LOOK_S = 0.25
PLACE_LOOK_S = 0.1
LOST_S = 5.0
"""So long a node that starts, or an election, may be without a quorum before it is told."""
_log = log.get("cluster")


class NodeCluster:
    """What the rest of the node asks about the cluster. With `[cluster]` disabled this node leads, and all work is its own.

    Made before anything of the node starts: keys and certificates that all members share are in their places afterwards.

    Attributes:
        place: answers where the cluster's records are kept; None while they cannot be had.
        listeners: called with each change of members and leader, in order.
        no_quorum_since: microseconds since the epoch; None while there is a quorum, or no cluster.
        trouble: what keeps others from joining here, empty where nothing does.
        audit: where it is noted who joined, and what became of members.
        role: what it is to the others.

    Raises `ConfigError`, `RejectedError`, `UnavailableError` when made.
    """

    def __init__(self, config: NodeConfig, clock: Clock, role: Role = "node") -> None:
        self.enabled = config.cluster.enabled
        self.listeners: list[Callable[[Change], None]] = []
        self.place: Callable[[], RecordsPlace | None] = lambda: None
        self.no_quorum_since: int | None = None
        self.trouble = ""
        self.audit: AuditLog | None = None
        self.joined: Joined | None = None
        self.manager: ClusterManager | None = None
        self.join_port: JoinPort | None = None
        self.role = role
        self.name, self.site = config.node.name, config.node.site
        self._config = config
        self._clock = clock
        self._server: NatsServer | None = None
        self._known: tuple[EdgeNode, ...] = ()
        self._tls: ServerTls | None = None
        if self.enabled:
            self._begin()

    def _begin(self) -> None:
        config, clock = self._config, self._clock
        self.joined = prepare(config, clock)
        self._known = read_known(cluster_folder(config)) or self.joined.members
        own = msgspec.structs.replace(cluster_config(config), role=self.role)
        work = partitions_of(config) if self.role == "node" else []
        self.manager = ClusterManager(own, partitions=work, leases=PlacedLeases(self._placed), clock=clock)
        key = SigningKey.from_pem(ticket_file(config).read_bytes(), str(ticket_file(config)))
        tls = self._tls = ServerTls(cluster_tls(config), clock)
        self.join_port = JoinPort(
            own, self.manager, site_authority(config).load(), key, lambda: tls.context, lambda: shared(config.data_dir), clock,
            self._note_join,
        )  # fmt: skip

    def _placed(self) -> RecordsPlace | None:
        return self.place()

    def keep_records_at(self, place: Callable[[], RecordsPlace | None], server: NatsServer) -> None:
        """Say where the records are kept, asked each time, and which server is this node's."""
        self.place, self._server = place, server

    async def run(self) -> None:
        """Be a member until cancelled; nothing to do where there is no cluster."""
        if self.manager is None:
            return
        self.no_quorum_since = self._clock.now()
        works = (self._listen, self._watch, self._look_for_quorum, self._be_member)
        tasks = [asyncio.create_task(work()) for work in works]
        try:
            await asyncio.gather(*tasks)
        finally:
            await cancel_and_wait(*tasks)

    async def _be_member(self) -> None:
        """A member as soon as the records can be asked for."""
        assert self.manager is not None
        while True:
            if self.place() is not None:
                break
            await asyncio.sleep(PLACE_LOOK_S)
        async with self.manager:
            await asyncio.Event().wait()

    async def _listen(self) -> None:
        """Keep the join port open."""
        port, backoff = self.join_port, Backoff(1.0, 30.0)
        assert port is not None
        async with port:
            while True:
                try:
                    await port.listen(*listen_address(self._config))
                except SkerryError as error:
                    if str(error) != self.trouble:
                        _log.error(f"no node can join here: {error}")
                    self.trouble = str(error)
                    await asyncio.sleep(backoff.next())
                    continue
                self.trouble = ""
                await asyncio.Event().wait()

    async def _watch(self) -> None:
        """Tell who listens what changes."""
        assert self.manager is not None
        while True:
            with suppress(SkerryError):  # too many changes at once: it begins again with all members
                async for change in self.manager.watch():
                    self._tell(change)
                    for listener in self.listeners:
                        listener(change)

    def _note_join(self, event: str, node: str, reason: str) -> None:
        if self.audit is not None:
            self.audit.note(event, reason=reason, node=node)

    def _tell(self, change: Change) -> None:
        """Into the log and the audit log."""
        if self.manager is not None and self.manager.ready.is_set() and change.kind in ("joined", "removed", "changed"):
            self._known = tuple(self.manager.members())
            with suppress(UnavailableError):  # it is known until the next start all the same
                write_known(cluster_folder(self._config), self._known)
        if change.kind == "changed":
            return
        if change.kind == "leader":
            words = f"{change.after or 'nobody'} leads" + (f", {change.before} did before" if change.before else "")
        else:
            words = f"{change.node} is {change.after or 'no member any more'}" + (f": {change.reason}" if change.reason else "")
        _log.info(f"cluster: {words}")
        if self.audit is not None:
            self.audit.note(
                f"cluster {change.kind}", reason=change.reason, node=change.node, before=change.before, after=change.after
            )

    async def _look_for_quorum(self) -> None:
        assert self.manager is not None
        while True:
            if self.manager.ready.is_set():
                self.no_quorum_since = None
            elif self.no_quorum_since is None:
                self.no_quorum_since = self._clock.now()
            await asyncio.sleep(QUORUM_LOOK_S)

    async def until_removed(self) -> None:
        """Until this node is none of the cluster any more. Raises `RejectedError` then; it has to join anew."""
        while self.manager is None or not self.manager.removed(self._config.node.name):
            await beat(QUORUM_LOOK_S)
        note_removal(self._config)

    # what the rest of the node asks

    @property
    def leads(self) -> bool:
        """Whether this node does what only one may do. Ask before each effect."""
        return self.manager is None or self.manager.leads

    @property
    def quorum(self) -> bool:
        """Whether this node is a member at this moment; True where there is no cluster."""
        return self.manager is None or self.manager.ready.is_set()

    @property
    def lost(self) -> bool:
        """Whether there has been no quorum for longer than an election of the leader takes."""
        return self.no_quorum_since is not None and self._clock.now() - self.no_quorum_since > LOST_S * SECOND

    def members(self) -> list[EdgeNode]:
        """All members as this node knows them, from its last run where nothing was heard yet; none where there is no cluster."""
        if self.manager is None:
            return []
        return self.manager.members() or [
            msgspec.structs.replace(node, status=NodeStatus.SUSPECT, reason="nothing was heard of it since this node started")
            for node in self._known
        ]

    def mine(self) -> frozenset[str]:
        """Units of work, `<pipeline>/<p>`, that this node may run at this moment. Ask before each effect."""
        if self.manager is not None:
            return self.manager.mine()
        return frozenset(part.name for part in partitions_of(self._config))

    def hold(self, unit: str) -> bool:
        """Say that a unit is about to be run here: whether it may."""
        return unit in self.mine() if self.manager is None else self.manager.hold(unit)

    def let_go(self, unit: str) -> None:
        """Say that a unit was stopped, and all that it had to write is written."""
        if self.manager is not None:
            self.manager.let_go(unit)

    @property
    def lease_until(self) -> float:
        """See `ClusterManager.lease_until`; without end where there is no cluster."""
        return math.inf if self.manager is None else self.manager.lease_until

    def holders(self) -> dict[str, str]:
        """The node that each unit is given to, as far as is known here; none where there is no cluster."""
        return {} if self.manager is None else self.manager.holders()

    def places(self, pipeline: str) -> dict[str, list[int]]:
        """By node, the partitions of a pipeline that it is given; none where there is no cluster."""
        return places(self.holders(), pipeline)

    def not_here(self, spec: PipelineSpec) -> tuple[str, str] | None:
        """State and reason of a pipeline that others run, or nobody for want of a capability; else None."""
        nodes = self.places(spec.name)
        if nodes and self._config.node.name not in nodes:
            return "elsewhere", f"runs on {', '.join(nodes)}"
        lacks = self.lacking(spec)
        return ("pending", f"pending: {lacks}") if lacks else None

    def lacking(self, spec: PipelineSpec) -> str:
        """Why no node runs a pipeline, in a sentence, where that is for want of a capability; else empty."""
        return "" if self.places(spec.name) else lacking(spec.capabilities, self._config.node.capabilities, self.members())

    def take_config(self, config: NodeConfig) -> None:
        """Go on with other pipelines."""
        self._config = config
        if self.manager is not None:
            self.manager.place(partitions_of(config))

    def warnings(self) -> list[str]:
        """What a person should look at, one sentence each."""
        found = [f"no node can join here: {self.trouble}"] if self.trouble else []
        if self.lost:
            found.append(f"no quorum since {self.no_quorum_text}: what devices send at QoS 1 is not acknowledged")
        ends = "" if self._tls is None else judge(self._tls.facts, self._clock.now(), RENEW_DAYS)
        if ends:
            found.append(f"the node's certificate in the cluster {ends}: start the node again, and it signs another")
        return found

    @property
    def no_quorum_text(self) -> str | None:
        """Since when there is no quorum, RFC 3339."""
        return None if self.no_quorum_since is None else to_rfc3339(self.no_quorum_since)

    @property
    def stale(self) -> str:
        """Why what is read here may be old; empty where there is a quorum."""
        since = self.no_quorum_text
        return f"no quorum since {since}: this is what this node has, and may be old" if since else ""

    @property
    def sentence(self) -> str:
        """How the cluster is."""
        if self.manager is None:
            return "one node, no cluster"
        if self.no_quorum_since is None:
            return self.manager.status
        server = self._server
        why = server.status if server is not None and not server.ready.is_set() else self.manager.status
        return f"no quorum since {self.no_quorum_text}: {why}" if self.lost else why

    def status(self) -> dict[str, Any] | None:
        """What `status` says; None where there is no cluster."""
        manager = self.manager
        if manager is None:
            return None
        members = self.members()
        return {
            "enabled": True,
            "name": self._config.cluster.name or self._config.node.site,
            "sentence": self.sentence,
            "nodes": len(members),
            "leader": manager.leader,
            "epoch": manager.epoch,
            "leads": manager.leads,
            "no_quorum_since": self.no_quorum_text,
            "address": cluster_config(self._config).address,
            "members": [
                {
                    "id": node.id,
                    "address": node.address,
                    "status": str(node.status),
                    "capabilities": list(node.capabilities),
                    "role": node.role,
                }
                for node in members
            ],
            "partitions": manager.holders(),
            "unplaced": manager.unplaced(),
        }


def partitions_of(config: NodeConfig) -> list[Partition]:
    """All work of a configuration that is to be placed."""
    return [Partition(unit_name(spec.name, p), spec.capabilities) for spec in config.pipelines for p in range(config.partitions)]
