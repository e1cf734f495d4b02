"""One node's part in the cluster: what it believes, what it writes next, what it may run now. Pure.

What makes it safe (docs/adr/0016-cluster.md): a node works while its own record was renewed within `lease` by its own monotonic
clock. Who wants its work or its office first fences it: writes its record by compare-and-set over the revision that has been
silent for `offline`. If that write comes through, no renewal of the old generation ever will again; and the last one that did was
acknowledged, if at all, before the silence began. A lease that lapsed only pauses the node: where the next renewal is taken,
nobody has fenced it, and all is still its own.
"""

import math
from collections.abc import Mapping, Sequence

import msgspec

from skerry.cluster.members import EdgeNode, NodeStatus, Presence, Timing
from skerry.cluster.placement import Host, advance, unplaced
from skerry.cluster.records import (
    LEADER,
    MARK,
    MEMBER,
    MOST_MEMBERS,
    MOST_PARTITIONS,
    PLAN,
    WISH,
    Entry,
    Mark,
    Member,
    Office,
    Partition,
    Plan,
    Put,
    Wish,
    decode,
    encode,
)
from skerry.core.errors import RejectedError

_NOBODY = Office("", 0, 0)


class Agent:
    """Drives one node. Call `observe` with each read of the bucket, then `next` until it gives None, telling each outcome.

    Args:
        me: the node's record as it shall be; generation, state, holds and seen are set here.
        wanted: partitions that shall run, the same on every node.

    Attributes:
        holds: partitions that it runs, or has not yet stopped: the caller keeps this true. What is started has to be in it before.
        ready: whether it takes work.
        trouble: why it is no member, empty if it is one or will soon be.
    """

    def __init__(self, me: Member, timing: Timing, wanted: Sequence[Partition] = ()) -> None:
        self.holds: set[str] = set()
        self.ready = True
        self.trouble = ""
        self.leaving = False
        self._me = me
        self._timing = timing
        self._entries: dict[str, Entry] = {}
        self._members: dict[str, Member] = {}
        self._marks: dict[str, Mark] = {}
        self._office = _NOBODY
        self._wish = Wish()
        self._plan = Plan()
        self._presence = Presence(timing)
        self._first: dict[str, int] = {}
        self._read = False
        self._observed = -math.inf
        self._changed_at = -math.inf
        # of the own record: generation 0 is none, `_sure` that its revision is known
        self._generation = 0
        self._revision = 0
        self._valid_until = -math.inf
        self._next_beat = -math.inf
        self._sure = True
        self._stepped_down = 0
        self.wanted = wanted

    @property
    def wanted(self) -> Sequence[Partition]:
        """Partitions that shall run."""
        return self._wanted

    @wanted.setter
    def wanted(self, partitions: Sequence[Partition]) -> None:
        if len(partitions) > MOST_PARTITIONS:
            raise RejectedError(f"{len(partitions)} partitions are too many", mend=f"{MOST_PARTITIONS} is the most")
        self._wanted = tuple(partitions)

    # what it believes

    def observe(self, entries: Mapping[str, Entry], now: float) -> None:
        """Take a read of the whole bucket. An older one than was read before changes nothing."""
        self._read = True
        if now - self._observed > self._timing.suspect:
            self._presence.forgive(now)
        self._observed = now
        for key, entry in entries.items():
            before = self._entries.get(key)
            if before is None or entry.revision > before.revision:
                self._take(key, entry, now)

    def _take(self, key: str, entry: Entry, now: float) -> None:
        """A new revision of one key."""
        self._entries[key] = entry
        if key.startswith(MEMBER):
            member = decode(Member, entry, key)
            if member is not None:
                self._take_member(member, entry, now)
        elif key.startswith(MARK):
            self._marks[key.removeprefix(MARK)] = decode(Mark, entry, key) or Mark()
        elif key == LEADER:
            self._office = decode(Office, entry, key) or _NOBODY
        elif key == WISH:
            self._wish = decode(Wish, entry, key) or Wish()
        elif key == PLAN:
            self._plan = decode(Plan, entry, key) or Plan()

    def _take_member(self, member: Member, entry: Entry, now: float) -> None:
        before = self._members.get(member.id)
        if before is None or (before.generation, before.state) != (member.generation, member.state):
            self._changed_at = now
        self._members[member.id] = member
        self._first.setdefault(member.id, entry.revision)
        self._presence.heard(member, now)
        if member.id != self._me.id or not self._generation or entry.revision <= self._revision:
            return
        self._sure = True
        if (member.instance, member.generation) == (self._me.instance, self._generation) and member.state in ("joining", "online"):
            self._revision = entry.revision
        else:
            self._lose(f"it was silent, and {member.by or 'another node'} took over")

    def _lose(self, why: str) -> None:
        self._generation, self._valid_until = 0, -math.inf
        self.trouble = why

    def valid(self, now: float) -> bool:
        """Whether its lease holds: it has been heard by a quorum just now, and nobody else may do its work."""
        return self._generation > 0 and now < self._valid_until

    def leads(self, now: float) -> bool:
        """Whether it is the leader now."""
        office = self._office
        mine = (office.holder, office.generation) == (self._me.id, self._generation)
        return mine and office.epoch > self._stepped_down and self.valid(now)

    @property
    def valid_until(self) -> float:
        """When its lease ends, if it is not renewed."""
        return self._valid_until

    @property
    def epoch(self) -> int:
        """Of the last leader that it heard of."""
        return self._office.epoch

    @property
    def plan(self) -> Plan:
        """The plan as it was last read."""
        return self._plan

    def leader(self, now: float) -> str:
        """Who leads, as far as is known; empty where nobody does, or where it cannot be known."""
        member = self._members.get(self._office.holder)
        if member is None or not self.valid(now) or self._vacant():
            return ""
        return member.id if self._presence.silence(member.id, now) <= self._timing.offline else ""

    def may_run(self, now: float) -> frozenset[str]:
        """Partitions that are this node's, to be run now; empty while the lease does not hold."""
        if not self.valid(now) or self.leaving:
            return frozenset()
        mine = (self._me.id, self._generation)
        return frozenset(name for name, part in self._plan.parts.items() if (part.node, part.generation) == mine and not part.to)

    def unplaced(self) -> list[str]:
        """Partitions that run nowhere: no node has the capabilities and the room."""
        return unplaced(self._plan, self._wanted)

    def view(self, now: float) -> dict[str, EdgeNode]:
        """All nodes by id. Without a quorum nothing can be known of the others: they are suspect."""
        return {name: self._seen(member, now) for name, member in sorted(self._members.items()) if member.state != "removed"}

    def _seen(self, member: Member, now: float) -> EdgeNode:
        status, reason = self._presence.status(member, self._marks.get(member.id, Mark()).maintenance, now)
        if self._generation and not self.valid(now):
            if member.id == self._me.id:
                status, reason = NodeStatus.SUSPECT, f"no quorum for {now - self._valid_until:.0f} s"
            elif status not in (NodeStatus.MAINTENANCE, NodeStatus.JOINING) and member.state == "online":
                status, reason = NodeStatus.SUSPECT, "there is no quorum: nothing can be known of it"
        return EdgeNode(
            member.id, member.address, status, member.capabilities, member.resources, member.version, member.site,
            member.started, reason, member.role,
        )  # fmt: skip

    # what it writes

    def next(self, now: float) -> Put | None:
        """The next write, or None. Tell what came of it with `written` or `failed` before the next call."""
        if not self._read:
            return None
        return self._renew(now) if self._generation else self._register(now)

    def _record(self, generation: int) -> bytes:
        state = "left" if self.leaving and not self.holds else "online" if self.ready else "joining"
        return encode(
            msgspec.structs.replace(
                self._me, generation=generation, state=state, holds=tuple(sorted(self.holds)), seen=self._plan.version, by=""
            )
        )

    def _register(self, now: float) -> Put | None:
        """Come as a new generation, once all of the last one has stopped, and if nobody else has the name."""
        if self.holds or self.leaving or now < self._next_beat:
            return None
        key, mine = MEMBER + self._me.id, self._members.get(self._me.id)
        entry = self._entries.get(key)
        if mine is None or entry is None:
            if len(self._members) >= MOST_MEMBERS:
                self.trouble = f"the cluster has {MOST_MEMBERS} members, which is the most"
                return None
            return Put(key, self._record(1), 0, now)
        if mine.state == "removed":
            self.trouble = f"{self._me.id} was removed from the cluster by {mine.by}; join again"
            return None
        if mine.instance != self._me.instance and mine.state in ("joining", "online"):
            if entry.revision != self._first[self._me.id]:
                self.trouble = f"another node is called {self._me.id}; give this one another name"
            else:
                self.trouble = f"waiting whether another node is called {self._me.id}"
            if not self._silent(mine, now):
                return None
        return Put(key, self._record(mine.generation + 1), entry.revision, now)

    def _renew(self, now: float) -> Put | None:
        if self._sure and now >= self._next_beat:
            return Put(MEMBER + self._me.id, self._record(self._generation), self._revision, now)
        return self._decide(now) if self.valid(now) and self._sure else None

    def _decide(self, now: float) -> Put | None:
        """What a leader does, or who wants to be one."""
        if self.leads(now):
            return self._step_aside(now) or self._fence_silent(now) or self._plan_on(now)
        if self._office.holder == self._me.id and self._office.epoch <= self._stepped_down:
            return self._resignation(now)
        if not self._stands(now):
            return None
        if self._vacant():
            office = Office(self._me.id, self._generation, self._office.epoch + 1)
            return self._put(LEADER, encode(office), now)
        holder = self._members.get(self._office.holder)
        return self._fence(holder, now) if holder is not None and self._silent(holder, now) else None

    def _silent(self, member: Member, now: float) -> bool:
        """Whether it may be fenced."""
        return self._presence.silence(member.id, now) > self._timing.offline

    def _vacant(self) -> bool:
        holder = self._members.get(self._office.holder)
        if holder is None:
            return not self._office.holder
        return holder.generation != self._office.generation or holder.state not in ("joining", "online")

    def _stands(self, now: float) -> bool:
        """Whether it would lead: nodes in maintenance only where there is no other."""
        if self._me.role != "node" or not self.ready or self.leaving:
            return False
        if self._stepped_down >= self._office.epoch and self._may_lead(now) - {self._me.id}:
            return False  # another is to take it
        own = self.view(now).get(self._me.id)
        return own is not None and (own.status == NodeStatus.ONLINE or not self._may_lead(now))

    def _step_aside(self, now: float) -> Put | None:
        """A leader that is to be taken out of service, or that a person wants no more, makes room, if another can lead."""
        wanted = self._wish.epoch != self._office.epoch and not self._marks.get(self._me.id, Mark()).maintenance
        if wanted and not self.leaving:
            return None
        return self.step_down(now) if self._may_lead(now) - {self._me.id} else None

    def _may_lead(self, now: float) -> set[str]:
        return {node.id for node in self.view(now).values() if node.status == NodeStatus.ONLINE and node.role == "node"}

    def step_down(self, now: float) -> Put | None:
        """The write that gives the office up; None where it has none to give. It does not lead from now on."""
        if not self.leads(now):
            return None
        self._stepped_down = self._office.epoch
        return self._resignation(now)

    def want_another(self, now: float) -> Put | None:
        """The write that asks who leads to give the office up; None where nobody does."""
        return self._put(WISH, encode(Wish(self._office.epoch)), now) if self.leader(now) else None

    def _resignation(self, now: float) -> Put:
        return self._put(LEADER, encode(Office("", 0, self._office.epoch)), now)

    def _fence_silent(self, now: float) -> Put | None:
        for name, member in sorted(self._members.items()):
            if name != self._me.id and member.state in ("joining", "online") and self._silent(member, now):
                return self._fence(member, now)
        return None

    def _fence(self, member: Member, now: float) -> Put:
        fenced = msgspec.structs.replace(member, state="fenced", generation=member.generation + 1, holds=(), seen=0, by=self._me.id)
        return self._put(MEMBER + member.id, encode(fenced), now)

    def idle(self, node: str) -> bool:
        """Whether a node neither leads nor has work, as far as is known here."""
        member = self._members.get(node)
        given = any(node in (part.node, part.to) for part in self._plan.parts.values())
        return member is None or not (member.holds or given or self._office.holder == node)

    def remove(self, node: str, now: float) -> Put:
        """The write that takes a node out for good; it has to join again.

        Raises `RejectedError` where there is no such node, or where it is still there: what it runs would run twice.
        """
        member = self._members.get(node)
        if member is None or member.state == "removed":
            raise RejectedError(f"there is no node {node!r}", mend="ask for the members")
        out = member.state == "joining" or (self._marks.get(node, Mark()).maintenance and self.idle(node))
        if member.state in ("joining", "online") and not self._silent(member, now) and not out:
            raise RejectedError(f"{node} is there and works", mend="drain it first")
        gone = msgspec.structs.replace(member, state="removed", generation=member.generation + 1, holds=(), seen=0, by=self._me.id)
        return self._put(MEMBER + node, encode(gone), now)

    def readmit(self, node: str, now: float) -> Put | None:
        """The write that lets a removed node come again; None where there is nothing to write."""
        member = self._members.get(node)
        if member is None or member.state != "removed":
            return None
        left = msgspec.structs.replace(member, state="left", generation=member.generation + 1)
        return self._put(MEMBER + node, encode(left), now)

    def mark(self, node: str, maintenance: bool, now: float) -> Put:
        """The write that asks for maintenance, or ends it. Raises `RejectedError` where there is no such node."""
        if node not in self._members or self._members[node].state == "removed":
            raise RejectedError(f"there is no node {node!r}", mend="ask for the members")
        return self._put(MARK + node, encode(Mark(maintenance)), now)

    def _plan_on(self, now: float) -> Put | None:
        """The next plan, if it differs; a new leader writes it in any case, so that the one before can write none any more."""
        hosts = [self._host(node, now) for node in self.view(now).values() if node.status in _THERE]
        calm = now - self._changed_at > self._timing.calm
        parts = advance(self._plan, self._wanted, hosts, self._members, calm)
        if parts == self._plan.parts and self._plan.epoch == self._office.epoch:
            return None
        return self._put(PLAN, encode(Plan(self._plan.version + 1, self._office.epoch, parts)), now)

    def _host(self, node: EdgeNode, now: float) -> Host:
        flapping = node.status == NodeStatus.SUSPECT and self._presence.silence(node.id, now) <= self._timing.suspect
        return Host(
            node.id,
            self._members[node.id].generation,
            frozenset(node.capabilities),
            node.resources,
            takes=(node.status == NodeStatus.ONLINE or flapping) and node.role == "node",
            keeps=node.status != NodeStatus.MAINTENANCE and node.role == "node",
            doubtful=flapping,
        )

    def _put(self, key: str, value: bytes, now: float) -> Put:
        entry = self._entries.get(key)
        return Put(key, value, entry.revision if entry else 0, now)

    # what came of it

    def written(self, put: Put, revision: int, now: float) -> None:
        """The write was taken and has this revision. An answer that comes after a later write was read changes nothing."""
        before = self._entries.get(put.key)
        if before is not None and before.revision > revision:
            return
        if put.key != MEMBER + self._me.id:
            self._take(put.key, Entry(put.value, revision), now)
            return
        if not self.valid(now):
            # while nothing could be written, what was read may have been old
            self._presence.forgive(now)
        mine = msgspec.json.decode(put.value, type=Member)
        self._generation, self._revision, self._sure, self.trouble = mine.generation, revision, True, ""
        self._valid_until = put.began + self._timing.lease
        self._next_beat = put.began + self._timing.beat
        self._take(put.key, Entry(put.value, revision), now)
        if mine.state == "left":
            self._lose("")

    def failed(self, put: Put, refused: bool, now: float) -> None:
        """It was refused by revision, or nobody knows what came of it: the next read tells."""
        self._read = False
        if put.key == MEMBER + self._me.id:
            self._next_beat = now + self._timing.beat / 2
            self._sure = not refused


_THERE = (NodeStatus.ONLINE, NodeStatus.SUSPECT, NodeStatus.MAINTENANCE)
