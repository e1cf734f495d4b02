"""Which node runs which partition: spread, sticky, within capabilities and room, moved with both sides' consent. Pure.

A partition that runs is moved in two steps: the plan says where it shall go, the node that has it says that it has stopped it,
then the plan gives it away. Only what belongs to a dead generation is given away at once. So nobody can be told to run what
another still runs.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

import msgspec

from skerry.cluster.records import Member, Part, Partition, Plan
from skerry.runtime import ResourceUsage

MOVES = 8
"""Moves under way at once that only spread the work better."""
NOWHERE = "-"
KINDS = ("memory", "cpu", "network", "disk")


class Host(msgspec.Struct, frozen=True):
    """A node as placement sees it.

    Attributes:
        takes: it gets new work.
        doubtful: only where no other node takes it.
        keeps: it keeps what it has; otherwise its work goes where there is room.
    """

    id: str
    generation: int
    capabilities: frozenset[str]
    resources: ResourceUsage
    takes: bool = True
    keeps: bool = True
    doubtful: bool = False


class _Load:
    """What is on each node, as partitions are put there."""

    def __init__(self, hosts: Iterable[Host]) -> None:
        self.hosts = {host.id: host for host in hosts}
        self.count = dict.fromkeys(self.hosts, 0)
        self._used = {name: dict.fromkeys(KINDS, 0.0) for name in self.hosts}
        self._families: Counter[tuple[str, str]] = Counter()

    def put(self, partition: Partition, node: str) -> None:
        if node not in self.count:
            return
        self.count[node] += 1
        self._families[node, _family(partition.name)] += 1
        for kind in KINDS:
            self._used[node][kind] += getattr(partition.resources, kind)

    def fits(self, partition: Partition, host: Host) -> bool:
        if not _able(host, partition):
            return False
        used = self._used[host.id]
        for kind in KINDS:
            limit = getattr(host.resources, kind)
            if limit and used[kind] + getattr(partition.resources, kind) > limit:
                return False
        return True

    def best(self, partition: Partition, apart: str = "") -> str:
        """The node that takes it with the least on it; empty where none does."""
        family = _family(partition.name)
        found = [
            (host.doubtful, self.count[name], self._families[name, family], name)
            for name, host in self.hosts.items()
            if host.takes and host.keeps and name != apart and self.fits(partition, host)
        ]
        return min(found)[3] if found else ""


def _family(name: str) -> str:
    return name.partition("/")[0]


def advance(
    plan: Plan, wanted: Sequence[Partition], hosts: Iterable[Host], members: Mapping[str, Member], calm: bool
) -> dict[str, Part]:
    """The parts of the next plan. Give it what it gave and nothing changes, unless the nodes did.

    Args:
        hosts: nodes that are there.
        members: the records of all, which say what has been stopped.
        calm: no member changed for a while, so that work may be moved only to spread it better.
    """
    load = _Load(hosts)
    by_name = {partition.name: partition for partition in wanted}
    parts: dict[str, Part] = {}
    for name, part in sorted(plan.parts.items()):
        kept = _settled(part, members.get(part.node), name, load.hosts)
        if kept is None or (name not in by_name and kept.node != part.node):
            continue
        parts[name] = kept
        if name in by_name:
            load.put(by_name[name], kept.node)
            if kept.to:
                load.put(by_name[name], kept.to)
    for name, part in parts.items():
        if name not in by_name and not part.to:
            parts[name] = msgspec.structs.replace(part, to=NOWHERE, since=plan.version + 1)
        elif name in by_name and part.to == NOWHERE and _able(load.hosts.get(part.node), by_name[name]):
            parts[name] = Part(part.node, part.generation)
    for partition in sorted(wanted, key=_largest_first):
        if partition.name not in parts and (node := load.best(partition)):
            parts[partition.name] = Part(node, load.hosts[node].generation)
            load.put(partition, node)
    _drain(parts, by_name, load, plan.version + 1)
    if calm:
        _spread(parts, by_name, load, plan.version + 1)
    return parts


def _largest_first(partition: Partition) -> tuple[float, float, int, str]:
    return -partition.resources.memory, -partition.resources.cpu, -len(partition.capabilities), partition.name


def _settled(part: Part, member: Member | None, name: str, hosts: Mapping[str, Host]) -> Part | None:
    """The part after what the nodes have said: as it is, handed on, or None where it is free."""
    if member is None or member.generation != part.generation or member.state in ("left", "fenced", "removed"):
        return None
    if not part.to:
        return part
    if member.seen >= part.since and name not in member.holds:
        target = hosts.get(part.to)
        return Part(target.id, target.generation) if target is not None and target.takes else None
    if part.to != NOWHERE and (part.to not in hosts or not hosts[part.to].takes):
        return Part(part.node, part.generation)
    return part


def _able(host: Host | None, partition: Partition) -> bool:
    """Whether a node has what it asks for; of one that is not there nothing else is known."""
    return host is None or host.capabilities.issuperset(partition.capabilities)


def _drain(parts: dict[str, Part], by_name: Mapping[str, Partition], load: _Load, version: int) -> None:
    """Work leaves nodes that are to be empty, and those that lack what it asks for since it was changed: these in any case."""
    for name, part in parts.items():
        host = load.hosts.get(part.node)
        if name not in by_name or part.to or host is None:
            continue
        able = _able(host, by_name[name])
        if host.keeps and able:
            continue
        target = load.best(by_name[name], part.node) or ("" if able else NOWHERE)
        if target:
            parts[name] = msgspec.structs.replace(part, to=target, since=version)
            load.put(by_name[name], target)


def _spread(parts: dict[str, Part], by_name: Mapping[str, Partition], load: _Load, version: int) -> None:
    """Move single partitions from the fullest node to one with two less at least, a few at a time."""
    leaving = Counter(part.node for part in parts.values() if part.to)
    moving = leaving.total()
    for name, part in sorted(parts.items(), key=lambda item: (-load.count.get(item[1].node, 0), item[0])):
        if moving >= MOVES:
            return
        if part.to or name not in by_name or part.node not in load.count:
            continue
        target = load.best(by_name[name], part.node)
        if target and not load.hosts[target].doubtful and load.count[part.node] - leaving[part.node] - load.count[target] >= 2:
            parts[name] = msgspec.structs.replace(part, to=target, since=version)
            load.put(by_name[name], target)
            leaving[part.node] += 1
            moving += 1


def unplaced(plan: Plan, wanted: Sequence[Partition]) -> list[str]:
    """Names of partitions that run nowhere, in order."""
    return sorted(partition.name for partition in wanted if partition.name not in plan.parts)
