"""Who is there: the status of each node from its record and from how long that has been silent. Pure."""

from collections import deque
from collections.abc import Mapping
from enum import StrEnum

import msgspec

from skerry.cluster.records import Member, Role
from skerry.core.errors import ConfigError
from skerry.runtime import ResourceUsage

DRIFT = 0.02
"""How much faster one monotonic clock may run than another; those of computers differ by less than 0.001."""


class NodeStatus(StrEnum):
    """What a node is to the others. A suspect node keeps its work and gets no more; one in maintenance gives it away."""

    ONLINE = "Online"
    OFFLINE = "Offline"
    MAINTENANCE = "Maintenance"
    JOINING = "Joining"
    SUSPECT = "Suspect"


class EdgeNode(msgspec.Struct, frozen=True):
    """A node as it is seen.

    Attributes:
        address: `host:port` of its join and control port.
        resources: what it lets pipelines have; 0 is no limit.
        started: microseconds since the epoch.
        reason: why it has this status, in a few words; empty when there is nothing to say.
        role: a `witness` keeps log and records with the others; it neither runs work nor leads.
    """

    id: str
    address: str
    status: NodeStatus
    capabilities: tuple[str, ...] = ()
    resources: ResourceUsage = ResourceUsage()
    version: str = ""
    site: str = ""
    started: int = 0
    reason: str = ""
    role: Role = "node"


class Timing(msgspec.Struct, frozen=True):
    """How the cluster keeps time, in seconds of each node's own monotonic clock.

    Attributes:
        beat: between two renewals of a node's record.
        suspect: silence after which a node is suspect.
        lease: a node works for so long after it began its last renewal that was acknowledged.
        offline: silence after which a node is fenced, and its work goes elsewhere.
        calm: without a change of members before work is moved only to spread it better.
        flaps: a node that came back so often within `flap_window` gets no new work until it has been there for `steady`.
    """

    beat: float = 0.5
    suspect: float = 1.5
    lease: float = 2.5
    offline: float = 3.0
    calm: float = 20.0
    flaps: int = 3
    flap_window: float = 120.0
    steady: float = 30.0

    def __post_init__(self) -> None:
        if not 0 < self.beat < self.suspect < self.offline:
            raise ConfigError("must grow in this order: beat, suspect, offline", where="timing")
        if not 2 * self.beat <= self.lease <= self.offline * (1 - 2 * DRIFT):
            raise ConfigError("must be two beats at least, and less than offline", where="timing.lease")


class _Seen(msgspec.Struct):
    """What this node has seen of another: times of its own monotonic clock."""

    generation: int
    fresh: float
    since: float
    returns: deque[float]


class Presence:
    """When each member was last heard of, by this node's own clock: pure, told the time."""

    def __init__(self, timing: Timing) -> None:
        self._timing = timing
        self._seen: dict[str, _Seen] = {}

    def heard(self, member: Member, now: float) -> None:
        """Its record has a revision that was not seen before."""
        seen = self._seen.get(member.id)
        if seen is None:
            self._seen[member.id] = _Seen(member.generation, now, now, deque(maxlen=self._timing.flaps))
            return
        if member.generation != seen.generation:
            seen.generation = member.generation
            if member.state in ("joining", "online"):
                seen.since = now
                seen.returns.append(now)
        elif now - seen.fresh > self._timing.suspect:
            seen.since = now
        seen.fresh = now

    def forgive(self, now: float) -> None:
        """This node itself heard nothing for a while: the silence of the others begins anew."""
        for seen in self._seen.values():
            seen.fresh = now

    def silence(self, node: str, now: float) -> float:
        """Seconds since it was last heard of."""
        seen = self._seen.get(node)
        return now - seen.fresh if seen else 0.0

    def flapping(self, node: str, now: float) -> bool:
        """Whether it came back so often that it gets no new work for now."""
        seen, timing = self._seen.get(node), self._timing
        if seen is None or len(seen.returns) < timing.flaps:
            return False
        return now - seen.since < timing.steady and seen.returns[-1] - seen.returns[0] <= timing.flap_window

    def status(self, member: Member, maintenance: bool, now: float) -> tuple[NodeStatus, str]:
        """What it is to us, and why."""
        silence = self.silence(member.id, now)
        if member.state == "left":
            return NodeStatus.OFFLINE, "it was stopped"
        if member.state == "fenced":
            return NodeStatus.OFFLINE, f"it was silent; its work was taken over by {member.by}"
        if silence > self._timing.offline:
            return NodeStatus.OFFLINE, f"silent for {silence:.0f} s"
        if silence > self._timing.suspect:
            return NodeStatus.SUSPECT, f"silent for {silence:.1f} s"
        if member.state == "joining":
            return NodeStatus.JOINING, ""
        if maintenance:
            return NodeStatus.MAINTENANCE, ""
        if self.flapping(member.id, now):
            return NodeStatus.SUSPECT, "it comes and goes: no new work until it stays"
        return NodeStatus.ONLINE, ""


class Change(msgspec.Struct, frozen=True):
    """Something that `watch` tells.

    Attributes:
        kind: `joined`, `status`, `changed`, `removed` or `leader`.
        node: its id; with `leader` the new one, or empty.
        before, after: the status, or with `leader` who it was and is.
    """

    kind: str
    node: str
    before: str = ""
    after: str = ""
    reason: str = ""


def changes(before: Mapping[str, EdgeNode], after: Mapping[str, EdgeNode]) -> list[Change]:
    """What is different, in the order of ids."""
    found = []
    for name in sorted({*before, *after}):
        old, new = before.get(name), after.get(name)
        if new is None:
            found.append(Change("removed", name, str(old.status) if old else ""))
        elif old is None:
            found.append(Change("joined", name, "", str(new.status), new.reason))
        elif old.status != new.status:
            found.append(Change("status", name, str(old.status), str(new.status), new.reason))
        elif msgspec.structs.replace(old, reason=new.reason) != new:
            found.append(Change("changed", name, str(old.status), str(new.status)))
    return found
