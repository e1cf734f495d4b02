"""`ClusterManager`: who is there, who leads, and which node runs what, for programs and for the node."""

import asyncio
import math
import secrets
from collections import deque
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import suppress
from types import TracebackType
from typing import Self

from skerry.broker import parse_address
from skerry.cluster.agent import Agent
from skerry.cluster.beacon import Found
from skerry.cluster.config import ClusterConfig
from skerry.cluster.discovery import Discovery, ask_seeds
from skerry.cluster.join_tokens import JoinTokens
from skerry.cluster.leases import Leases, leases_of
from skerry.cluster.members import Change, EdgeNode, NodeStatus, changes
from skerry.cluster.records import Member, Partition, Put
from skerry.core import log
from skerry.core.clock import Clock, SystemClock
from skerry.core.errors import FencedError, OverloadedError, SkerryError, UnavailableError
from skerry.core.service import Bell, cancel_and_wait

MOST_WAITING = 1024
"""Changes that a `watch` may leave unread."""
TRIES = 20
ORDER_S = 3.0
"""What a person asks for waits so long for a quorum: with the way there and back less than 5 s."""
LEAVE_S, ANNOUNCE_S, TELL_S = 2.0, 30.0, 60.0
_log = log.get("cluster")


class ClusterManager:
    """One node of a cluster: `async with ClusterManager(config) as cluster:`. Without servers it is a cluster of one.

    Members are those that hold a record in the replicated store; being found on the network is not being trusted.

    Args:
        partitions: work that is to be placed over the nodes; give the same to every node.
        leases: another store of records than `config` says.

    Attributes:
        ready: set when it is a member.
        status: one sentence for people.
        tokens: with which nodes join.
    """

    def __init__(
        self,
        config: ClusterConfig,
        *,
        partitions: Sequence[Partition] = (),
        leases: Leases | None = None,
        clock: Clock | None = None,
    ) -> None:
        self.ready = asyncio.Event()
        self.status = "not started"
        self._config = config
        self._clock = clock or SystemClock()
        self._leases = leases or leases_of(config)
        self.tokens = JoinTokens(self._leases)
        me = Member(
            config.node, config.instance or secrets.token_hex(8), 0, address=config.address, site=config.site,
            version=config.version, started=self._clock.now(), capabilities=config.capabilities, resources=config.resources,
            role=config.role,
        )  # fmt: skip
        self._agent = Agent(me, config.timing, partitions)
        self._bell = Bell()
        self._moved = Bell()
        self._read_to = 0
        self._view: dict[str, EdgeNode] = {}
        self._leader = ""
        self._watchers: list[deque[Change]] = []
        self._task: asyncio.Task[None] | None = None
        self._discovery: Discovery | None = None
        self._told: dict[str, float] = {}
        self._lapsed = False

    async def __aenter__(self) -> Self:
        self._task = asyncio.create_task(self.run())
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        await self.close()

    async def close(self) -> None:
        """Leave: what it holds must have been let go before, or goes elsewhere after `offline`. Twice is once."""
        task, self._task = self._task, None
        if task is None:
            return
        await self._leave()
        await cancel_and_wait(task)
        await self._leases.close()

    async def _leave(self) -> None:
        """Say goodbye, so that others need not wait for silence."""
        self._agent.leaving = True
        self._bell.ring()
        try:
            async with asyncio.timeout(LEAVE_S):
                while self._agent.valid(self._now()) and not self._agent.holds:
                    await self._moved.wait(0.05)
        except TimeoutError:
            return

    async def run(self) -> None:
        """Be a node until cancelled."""
        tasks = [asyncio.create_task(work()) for work in (self._reading, self._writing, self._announcing)]
        try:
            await asyncio.gather(*tasks)
        finally:
            await cancel_and_wait(*tasks)
            self.ready.clear()
            self.status = "not running"

    async def _reading(self) -> None:
        while True:
            try:
                entries = await self._leases.read(self._read_to)
                self._agent.observe(entries, self._now())
                self._read_to = max([self._read_to, *(entry.revision for entry in entries.values())])
            except Exception as error:  # noqa: BLE001 - whatever it is, the next read may be good, and the lease ends by itself
                self._say(f"the cluster's records cannot be read: {_words(error)}")
            self._notice()
            self._bell.ring()
            await asyncio.sleep(self._config.timing.beat / 2)

    async def _writing(self) -> None:
        while True:
            put = self._agent.next(self._now())
            if put is None:
                await self._bell.wait(self._config.timing.beat / 4)
                continue
            try:
                await self._write(put)
            except Exception as error:  # noqa: BLE001 - as with reads
                if not isinstance(error, FencedError):
                    self._say(f"the cluster's records cannot be written: {_words(error)}")
                await self._bell.wait(self._config.timing.beat / 4)

    async def _announcing(self) -> None:
        """Say by mDNS that it is there, where it has an address to be reached at."""
        while self._config.address and self._config.discovery != "seeds":
            try:
                async with Discovery(self._mine(), self._port()) as self._discovery:
                    await asyncio.Event().wait()
            except SkerryError as error:
                _log.warning(f"this node is not announced by mDNS: {error}; trying again in {ANNOUNCE_S:g} s")
            finally:
                self._discovery = None
            await asyncio.sleep(ANNOUNCE_S)

    async def _write(self, put: Put) -> None:
        """Write, and tell the agent what came of it."""
        try:
            revision = await self._leases.write(put.key, put.value, put.revision)
        except Exception as error:
            self._agent.failed(put, isinstance(error, FencedError), self._now())
            raise
        self._agent.written(put, revision, self._now())
        self._notice()

    def _now(self) -> float:
        return self._clock.monotonic()

    def _say(self, sentence: str) -> None:
        """Into `status`; into the log each kind once a minute, since they come by the second and in turns."""
        kind, now = sentence.partition(":")[0], self._now()
        if now - self._told.get(kind, -math.inf) >= TELL_S:
            _log.warning(sentence)
            self._told[kind] = now
        self.status = sentence

    def _notice(self) -> None:
        """Tell the watchers what is different."""
        now = self._now()
        view, leader = self._agent.view(now), self._agent.leader(now)
        found = changes(self._view, view)
        if leader != self._leader:
            found.append(Change("leader", leader, self._leader, leader))
        self._view, self._leader = view, leader
        if self._agent.valid(now):
            there = sum(1 for node in view.values() if node.status == NodeStatus.ONLINE)
            self.status = f"{there} of {len(view)} nodes are online; {leader or 'nobody'} leads"
            if self._lapsed:
                _log.info(f"the cluster is reached again: {self.status}")
            self._lapsed = False
            self.ready.set()
        else:
            self._lapsed |= self.ready.is_set()
            self.ready.clear()
            if self._agent.trouble:
                self._say(self._agent.trouble)
        for change in found:
            for waiting in self._watchers:
                waiting.append(change)
        self._moved.ring()

    # what is asked of it

    def members(self) -> list[EdgeNode]:
        """All members as they are now, by id."""
        return list(self._agent.view(self._now()).values())

    @property
    def leader(self) -> str | None:
        """The id of the node that leads, as far as is known here."""
        return self._agent.leader(self._now()) or None

    @property
    def epoch(self) -> int:
        """Grows by one with each leader; what a leader does is refused when there is a later one."""
        return self._agent.epoch

    @property
    def leads(self) -> bool:
        """Whether this node is the leader now."""
        return self._agent.leads(self._now())

    @property
    def lease_until(self) -> float:
        """When its lease ends, by the monotonic clock; it may be renewed after that. `-inf`: it has none, nothing is its own."""
        return self._agent.valid_until

    async def elect_leader(self, timeout: float = 15.0) -> str:
        """Wait until one leads; its id. Raises `UnavailableError` where nobody does by then, as without a quorum."""
        await self._until(lambda: self.leader is not None, timeout, "nobody leads")
        return self.leader or ""

    async def discover_nodes(self, timeout: float = 3.0) -> list[EdgeNode]:
        """Nodes of this site that are found within so many seconds, members or not, by id: by mDNS, by asking the seeds, or both.

        Those that have not joined are `Joining`. Ends early when one other was found and for half a second no more came.
        """
        members = {node.id: node for node in self.members()}
        found = await self._find(timeout)
        return [
            members.get(each.id)
            or EdgeNode(each.id, each.address, NodeStatus.JOINING, version=each.version, site=each.site, reason="it has not joined")
            for each in found
            if each.site == self._config.site
        ]

    async def _find(self, timeout: float) -> list[Found]:
        """As the configuration says: by mDNS, by asking the seeds, or both."""
        asked: dict[tuple[str, str], Found] = {}
        ways = [] if self._config.discovery == "seeds" else [self._hear(timeout)]
        if self._config.discovery != "mdns":
            ways.append(ask_seeds(self._config.seeds, timeout))
        done = await asyncio.gather(*ways, return_exceptions=True)
        for found in done:
            if isinstance(found, list):
                asked |= {(each.site, each.id): each for each in found}
            elif not isinstance(found, SkerryError) or len(done) == 1:
                raise found
        return [asked[key] for key in sorted(asked)]

    async def _hear(self, timeout: float) -> list[Found]:
        """Who announces itself; this node does too meanwhile."""
        if self._discovery is not None:
            return await self._discovery.settled(timeout)
        async with Discovery(self._mine(), self._port()) as discovery:
            return await discovery.settled(timeout)

    def _mine(self) -> Found:
        return Found(self._config.node, self._config.site, self._config.version, self._config.address)

    def _port(self) -> int:
        return parse_address(self._config.address, "address")[1] if self._config.address else 0

    async def watch(self) -> AsyncIterator[Change]:
        """Changes as they come; first each member as `joined`, and the leader. Raises `OverloadedError` when 1,024 are not read."""
        waiting: deque[Change] = deque(changes({}, self._view), maxlen=MOST_WAITING + 1)
        if self._leader:
            waiting.append(Change("leader", self._leader, "", self._leader))
        self._watchers.append(waiting)
        try:
            while True:
                while waiting:
                    if len(waiting) > MOST_WAITING:
                        raise OverloadedError(
                            f"{MOST_WAITING} changes of the cluster were not read", mend="read faster, or watch again"
                        )
                    yield waiting.popleft()
                await self._moved.wait(1.0)
        finally:
            self._watchers = [each for each in self._watchers if each is not waiting]

    async def drain(self, node: str) -> None:
        """Take a node out of service: its work goes elsewhere, where there is room. Raises `RejectedError` for an unknown one."""
        await self._order(lambda: self._agent.mark(node, True, self._now()))

    async def resume(self, node: str) -> None:
        """Put a drained node back to work."""
        await self._order(lambda: self._agent.mark(node, False, self._now()))

    async def remove(self, node: str) -> None:
        """Take out a node for good, which is offline or was drained. Raises `RejectedError` while it works."""
        await self._order(lambda: self._agent.remove(node, self._now()))

    def idle(self, node: str) -> bool:
        """Whether a node neither leads nor has work."""
        return self._agent.idle(node)

    async def readmit(self, node: str) -> None:
        """Let a node come again that was removed; one that was not may in any case."""
        if self._agent.readmit(node, self._now()) is not None:
            await self._order(lambda: self._agent.readmit(node, self._now()))
            await self.resume(node)  # it was drained before

    def take_work(self, takes: bool) -> None:
        """Whether it is to be given work and may lead; as long as not it is Joining."""
        self._agent.ready = takes

    def removed(self, node: str) -> bool:
        """Whether a node was taken out, and has not come again."""
        return self._agent.readmit(node, self._now()) is not None

    async def step_down(self) -> bool:
        """Have who leads give the office up, this node or another: whether one did. Raises `UnavailableError` without a quorum."""
        put = self._agent.step_down(self._now())
        if put is None:
            return await self._have_stepped_down()
        with suppress(FencedError, UnavailableError):  # the agent writes it again until it is known
            await self._write(put)
        self._bell.ring()
        return True

    async def _have_stepped_down(self) -> bool:
        epoch = self.epoch
        if self.leader is None:
            return False
        await self._order(lambda: self._agent.want_another(self._now()))
        await self._until(lambda: self.epoch != epoch or self.leader is None, ORDER_S, "the leader has not stepped down")
        return True

    async def _order(self, make: Callable[[], Put | None]) -> None:
        """Write what a person asked for, again where another write came between."""
        await self._until(lambda: self._agent.valid(self._now()), ORDER_S, "there is no quorum")
        for _ in range(TRIES):
            try:
                if (put := make()) is not None:
                    await self._write(put)
            except FencedError:
                await self._moved.wait(self._config.timing.beat)
            else:
                self._bell.ring()
                return
        raise UnavailableError("others wrote the same each time", where="cluster", mend="try again")

    async def _until(self, condition: Callable[[], bool], timeout: float, otherwise: str) -> None:
        try:
            async with asyncio.timeout(timeout):
                while not condition():
                    await self._moved.wait(0.25)
        except TimeoutError as error:
            raise UnavailableError(f"{otherwise} after {timeout:g} s: {self.status}", where="cluster") from error

    # the work

    def place(self, partitions: Sequence[Partition]) -> None:
        """Work that is to be placed from now on; give the same to every node."""
        self._agent.wanted = partitions
        self._bell.ring()

    def mine(self) -> frozenset[str]:
        """Partitions that this node may run at this moment. Ask before each effect: it is empty as soon as the lease has ended."""
        return self._agent.may_run(self._now())

    def hold(self, partition: str) -> bool:
        """Say that it is about to be run here: whether it may. Until `let_go` no other node gets it but by this one's end."""
        if partition not in self.mine():
            return False
        self._agent.holds.add(partition)
        return True

    def let_go(self, partition: str) -> None:
        """Say that it was stopped, and all that it had to write is written."""
        self._agent.holds.discard(partition)
        self._bell.ring()

    def holders(self) -> dict[str, str]:
        """The node that each partition is given to."""
        return {name: part.node for name, part in sorted(self._agent.plan.parts.items())}

    def unplaced(self) -> list[str]:
        """Partitions for which no node has the capabilities and the room."""
        return self._agent.unplaced()


def _words(error: Exception) -> str:
    return str(error) if isinstance(error, SkerryError) else f"{type(error).__name__}: {error}"
