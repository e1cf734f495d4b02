"""The node's own connection to its broker: streams, the log-in gate, the sinks, and the trimming of the log.

One `run` is one connection; the node starts it again when the broker has come back. Devices get in only after the log is there.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import suppress
from typing import Any

import msgspec

from skerry.broker import (
    LOG,
    MIB,
    SHARE,
    Bucket,
    Callout,
    StreamPlan,
    WireClient,
    bucket_plan,
    end_crowding,
    ensure,
    fill_to,
    log_plan,
    session_floor,
    stream_state,
    trim,
)
from skerry.core import log
from skerry.core.clock import Clock, to_rfc3339
from skerry.core.errors import UnavailableError
from skerry.core.service import Bell, beat, cancel_and_wait
from skerry.device import BrokerLogin
from skerry.pipeline import BUCKET, DEAD, EVENTS, Relay, begin_checkpoints, stored_cursors

EVENTS_BYTES = 256 * MIB
DEAD_BYTES = 128 * MIB
BUCKET_BYTES = 64 * MIB
DEVICES, CURSORS, CLIENTS = "skerry_devices", "skerry_cursors", "skerry_clients"
ROOM_FOR_HEADERS = 2048
TRIM_S = 1.0
LEADS_S = 0.5
SESSIONS_S = 5.0
MARGIN_S = 5.0
FULL, EMPTY_AGAIN, ALARM = 0.95, 0.90, 0.70
# what one message at least takes that the server stores and cannot read (broker/unreadable.py)
GHOST_BYTES = 64 * 1024
_log = log.get("node")


def quotas(log_bytes: int, uplink_bytes: int) -> int:
    """Bytes that all streams of a node may hold together, with room for what the server keeps of MQTT sessions."""
    return log_bytes + uplink_bytes + EVENTS_BYTES + DEAD_BYTES + 5 * BUCKET_BYTES + 256 * MIB


class Gone(msgspec.Struct):
    """What the retention gave up: messages of the log that a paused pipeline or a vanished session had not read."""

    messages: int = 0
    last: str = ""


def ghosts_in(state: dict[str, Any]) -> int:
    """Messages that the server still counts after they were trimmed; nothing is ever deleted from the middle of the log."""
    return max(0, int(state["messages"]) - (int(state["last_seq"]) - int(state["first_seq"]) + 1))


class Ages:
    """How old messages of the log are, by what this process has seen: a wall clock that is set must not make unread ones old.

    Keeps about a hundred (monotonic seconds, last sequence) over the span of interest; what it cannot know yet is young.
    """

    def __init__(self, span_s: float) -> None:
        self._step = span_s / 100
        self._seen: deque[tuple[float, int]] = deque(maxlen=128)

    def note(self, now: float, last_sequence: int) -> None:
        if not self._seen or now - self._seen[-1][0] >= self._step:
            self._seen.append((now, last_sequence))
        self._now = now

    def older_than(self, seconds: float) -> int | None:
        """The last sequence that is at least so old, or None."""
        found = None
        while self._seen and self._now - self._seen[0][0] >= seconds:
            found = self._seen.popleft()[1]
        return found


class LinkedBucket:
    """A bucket over the connection that there is now; without one every call raises `UnavailableError`. Behind `KeyValue`."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._bucket: Bucket | None = None
        self._client: WireClient | None = None

    def bind(self, client: WireClient) -> None:
        self._bucket, self._client = Bucket(client, self._name), client

    @property
    def _now(self) -> Bucket:
        if self._bucket is None or self._client is None:
            raise UnavailableError("the broker is not there yet")
        if self._client.closed.done():
            raise UnavailableError("the log does not answer now", mend="try again; `skerry status` says why")
        return self._bucket

    async def get(self, key: str) -> bytes | None:
        return await self._now.get(key)

    async def set(self, key: str, value: bytes) -> None:
        await self._now.set(key, value)

    async def delete(self, key: str) -> None:
        await self._now.delete(key)

    async def items(self, prefix: str = "") -> list[tuple[str, bytes]]:
        return await self._now.items(prefix)


class Link:
    """What the node does over its own connection.

    Attributes:
        closed: set while there is no connection.
        clients: the bucket of what is known of MQTT clients.
        prepare_clients: awaited when that bucket is there, before devices may connect.
        haunted: called when the server counts many messages that are gone, which only its next start mends.
        leads: whether this node does now what only one of a cluster may do: trimming, and the sinks' relays.
        begins: awaited where pipelines are given their beginning: readers of the log beside them.
        beside: what else runs over the connection for as long as it lasts.
        plans: further streams that are to be there.
        copy: a connection to read over what this node's server has, while there is no quorum.

    Args:
        durable: answers the lowest stored cursor of all pipelines, or None when one has none yet.
        partitions: answers the pipelines' names and how many partitions each has.
        devices: the bucket of devices, bound before they may connect.
        replicas: how many servers keep the log; the other streams follow it.
    """

    def __init__(
        self,
        clock: Clock,
        log_bytes: int,
        longest: int,
        retention_us: int,
        login: BrokerLogin,
        relays: list[Relay],
        durable: Callable[[], int | None],
        partitions: Callable[[], tuple[list[str], int]],
        devices: LinkedBucket | None = None,
        replicas: Callable[[], int] = lambda: 1,
    ) -> None:
        self.client: WireClient | None = None
        self.closed = asyncio.Event()
        self.closed.set()
        self.devices = devices or LinkedBucket(DEVICES)
        self.clients = LinkedBucket(CLIENTS)
        self.prepare_clients: Callable[[], Awaitable[None]] | None = None
        self.haunted: Callable[[str], None] | None = None
        self.leads: Callable[[], bool] = lambda: True
        self.begins: list[Callable[[WireClient], Awaitable[None]]] = []
        self.beside: list[Callable[[WireClient], Coroutine[Any, Any, None]]] = []
        self.plans: list[StreamPlan] = []
        self.copy: WireClient | None = None
        self.opened = asyncio.Event()
        self.relays_replaced = asyncio.Event()
        self.log_state: dict[str, Any] = {}
        self.gone = Gone()
        self.bell = Bell()
        self.last_sequence = 0
        self._clock = clock
        self._log_bytes = log_bytes
        self._longest = longest
        self._retention_us = retention_us
        self._login = login
        self._relays = relays
        self._durable = durable
        self._partitions = partitions
        self._replicas = replicas
        self._cursors: deque[tuple[float, int]] = deque()
        self._trimmed = 0
        self._held_until = 0.0
        self._bound = self._bound_there = log_bytes
        self._subscriptions = 0  # how many the server had at the last look
        self._ages = Ages(self._retention_us / 1e6)

    def shut(self, shut: bool) -> None:
        """Whether the log is to take nothing more than it holds (the disk is short). It gives up nothing for that: a stream that
        refuses what is new drops nothing when its bound sinks below what it holds."""
        if shut and self._bound == self._log_bytes:
            self._bound = min(self._log_bytes, max(MIB, int(self.log_state.get("bytes", 0))))
        elif not shut:
            self._bound = self._log_bytes

    def hold(self, seconds: float) -> None:
        """Trim nothing for so long: a backup is being made, whose cursors may be behind those of now."""
        self._held_until = self._clock.monotonic() + seconds

    @property
    def fill(self) -> float:
        """How full the log is, 0 to 1."""
        return float(self.log_state.get("bytes", 0)) / self._log_bytes

    @property
    def reading(self) -> WireClient:
        """The connection, to read the log over. Raises `UnavailableError` while there is none."""
        if self.client is None or not self.opened.is_set():
            raise UnavailableError("the log does not answer now", mend="try again; `skerry status` says why")
        return self.client

    @property
    def looking(self) -> WireClient:
        """The same for who only shows what is there: without a quorum the copy that this node's server has."""
        return self.reading if self.copy is None or self.copy.closed.done() else self.copy

    async def run(self, client: WireClient, callout: Callout) -> None:
        """Serve over one connection until it ends. Raises `UnavailableError`, `RejectedError`."""
        self.client = client
        self.closed.clear()
        try:
            await self._prepare(client)
            tasks = [asyncio.create_task(callout.run())]
            tasks += [asyncio.create_task(self._deliver(client)), asyncio.create_task(self._keep_log(client))]
            tasks += [asyncio.create_task(work(client)) for work in self.beside]
            self._login.open = True
            answering = asyncio.create_task(callout.ready.wait())
            try:
                ended = asyncio.create_task(_end_of(client))
                tasks.append(ended)
                await asyncio.wait([answering, *tasks], return_when=asyncio.FIRST_COMPLETED)
                if answering.done():
                    self.opened.set()
                await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
                for task in tasks:
                    if task.done():
                        task.result()
            finally:
                self._login.open = False
                await cancel_and_wait(answering, *tasks)
        finally:
            self.opened.clear()
            self.client = None
            self.closed.set()

    async def _deliver(self, client: WireClient) -> None:
        """Run the relays, and others when they were replaced, until one ends."""
        cursors = Bucket(client, CURSORS)
        while True:
            self.relays_replaced.clear()
            leads = self.leads()
            relays = [asyncio.create_task(relay.run(client, cursors)) for relay in self._relays if leads]
            replaced = asyncio.create_task(self._until_replaced(leads))
            try:
                await asyncio.wait([replaced, *relays], return_when=asyncio.FIRST_COMPLETED)
                ended = [relay for relay in relays if relay.done()]
                for relay in ended:
                    relay.result()
            finally:
                await cancel_and_wait(replaced, *relays)
            if ended:
                return

    async def _until_replaced(self, leads: bool) -> None:
        """Until there are other relays, or this node begins or ceases to lead."""
        while self.leads() == leads:
            with suppress(TimeoutError):
                async with asyncio.timeout(LEADS_S):
                    await self.relays_replaced.wait()
                    return

    async def _prepare(self, client: WireClient) -> None:
        state = await self._bind_log(client)
        await ensure(client, StreamPlan(EVENTS, ("skerry.events.>",), EVENTS_BYTES))
        await ensure(client, StreamPlan(DEAD, ("skerry.dead.>",), DEAD_BYTES))
        for name in (BUCKET, DEVICES, CURSORS, CLIENTS):
            await ensure(client, bucket_plan(name, BUCKET_BYTES))
        for plan in self.plans:
            await ensure(client, plan)
        self.log_state, self.last_sequence = state, int(state["last_seq"])
        self.devices.bind(client)
        self.clients.bind(client)
        if self.prepare_clients is not None:
            await self.prepare_clients()
        await self._heal(client)
        await self.begin(client)

    async def _bind_log(self, client: WireClient) -> dict[str, Any]:
        bound = self._bound
        state = await ensure(client, log_plan(bound, self._longest + ROOM_FOR_HEADERS, self._replicas()))
        self._bound_there = bound
        return state

    async def begin(self, client: WireClient) -> None:
        """Give pipelines that are new a beginning: the log's end as it is now."""
        self.last_sequence = int((await stream_state(client, LOG))["last_seq"])
        names, partitions = self._partitions()
        await begin_checkpoints(client, names, partitions, self.last_sequence, alone=self._alone)
        for begin in self.begins:
            await begin(client)

    @property
    def _alone(self) -> bool:
        """Whether the log is kept by this node's server only, so that no other node can be at work on it."""
        return self._replicas() == 1

    async def _heal(self, client: WireClient) -> None:
        """After a power cut the log may end before a cursor: raise its sequence, so that nothing new looks processed."""
        added = await fill_to(client, max((await stored_cursors(client)).values(), default=0)) if self._alone else 0
        if added:
            _log.warning(f"the log had lost its last {added} messages (power cut); what devices re-send is processed again")
            self.last_sequence = int((await stream_state(client, LOG))["last_seq"])

    async def _keep_log(self, client: WireClient) -> None:
        """Trim the log behind what all have read, and shut the gate when it is nearly full."""
        floor: int | None = None
        looked = -SESSIONS_S
        while not client.closed.done():
            await beat(TRIM_S)
            now = self._clock.monotonic()
            self.log_state = await stream_state(client, LOG)
            self.last_sequence = int(self.log_state["last_seq"])
            self._ages.note(now, self.last_sequence)
            if self._bound != self._bound_there:
                await self._bind_log(client)
            self._guard()
            if not self.leads():
                self._cursors.clear()
                continue
            await self._keep_shares(client)
            if now - looked >= SESSIONS_S:
                floor, looked = await session_floor(client), now
            through = self._safe(now)
            if through is not None and floor is not None:
                through = min(through, floor)
            await self._trim(client, through)

    async def _keep_shares(self, client: WireClient) -> None:
        """Where many subscriptions have come since the last look, end those of devices that have more than their share."""
        count = int(self.log_state.get("consumer_count", 0))
        self._subscriptions = min(self._subscriptions, count)
        if count - self._subscriptions <= SHARE:
            return
        ended = await end_crowding(client)
        self._subscriptions = count - sum(ended.values())
        for device, number in ended.items():
            _log.warning(f"{number} subscriptions were ended: a device may have {SHARE} at QoS 1 and 2", device=device)

    def _safe(self, now: float) -> int | None:
        """The lowest stored cursor as it was some seconds ago: what a power cut may take back is still there."""
        durable = self._durable()
        if durable is None:
            return None
        self._cursors.append((now, durable))
        safe = None
        while self._cursors and self._cursors[0][0] <= now - MARGIN_S:
            safe = self._cursors.popleft()[1]
        return None if safe is None else min(safe, durable)

    async def _trim(self, client: WireClient, through: int | None) -> None:
        if self._clock.monotonic() < self._held_until:
            return
        if through is not None and through > self._trimmed and int(self.log_state["messages"]):
            await trim(client, through)
            self._trimmed = through
        old = self._ages.older_than(self._retention_us / 1e6)
        if old is not None and int(self.log_state["messages"]) and int(self.log_state["first_seq"]) <= old:
            await self._give_up(client, old)

    async def _give_up(self, client: WireClient, through: int) -> None:
        """`broker.retention.age` is passed: let go what a paused pipeline or a vanished session holds, count it and name it."""
        dropped = await trim(client, through)
        if dropped:
            self.gone = Gone(self.gone.messages + dropped, to_rfc3339(self._clock.now()))
            _log.warning(f"{dropped} messages older than broker.retention.age were given up unread")

    def _guard(self) -> None:
        fill = self.fill
        if self._bound < self._log_bytes:
            self._login.refuse_new("disk-full")
        elif fill > FULL:
            self._login.refuse_new("log-full")
        elif fill < EMPTY_AGAIN:
            self._login.refuse_new("")
        ghosts = ghosts_in(self.log_state)
        if self.haunted is not None and ghosts * GHOST_BYTES > self._log_bytes / 4:
            self.haunted(f"it counts {ghosts} messages in the log that are gone (topics too long to be stored)")


async def _end_of(client: WireClient) -> None:
    await asyncio.shield(client.closed)
