"""The uplink's queue: a stream of the node's own broker, written in transactions and emptied by what the centre has acknowledged.

A step publishes its items and then stores one checkpoint (state, cursors, last sequence) in one compare-and-set. What lies behind
the checkpoint's sequence is not sent, and is deleted at the next start: then the step is done again, whatever it gives. Each
publish names the sequence it expects, so that a process that was taken for dead cannot write. Sequences grow by each item, over
restarts and power cuts too: by them the centre knows what it has.
"""

import asyncio
import secrets
from collections import Counter
from collections.abc import Iterable, Sequence
from contextlib import suppress
from typing import Any, NamedTuple

import msgspec

from skerry.broker import (
    LOG,
    StreamPlan,
    WireClient,
    api,
    bucket_plan,
    ensure,
    kv_get,
    kv_put,
    read_page,
    store_all,
    stream_state,
)
from skerry.core.errors import CorruptError, FencedError, OverloadedError, RejectedError, UnavailableError
from skerry.core.service import Bell
from skerry.pipeline import EVENTS
from skerry.uplink.item import HELD, LANES, Lane, Priority

STREAM, PREFIX = "skerry_uplink", "skerry.uplink."
BUCKET, KEY = "skerry_uplink_state", "gather"
BUCKET_BYTES = 64 * 1024 * 1024
VOID = b"skerry.uplink.void.-"
IN_FLIGHT = 500
PAGE = 256
ACK_S = 10.0
_WRONG_LAST, _FULL = 10071, (10077, 10025)
_NOT_THERE = "(10043)"


class Entry(NamedTuple):
    """One item to queue: its lane, the pipeline it is of, and itself in bytes."""

    lane: Lane
    source: str
    body: bytes


class Checkpoint(msgspec.Struct, array_like=True):
    """All that a start goes on from.

    Attributes:
        epoch: names the life of this queue; a centre counts sequences within it.
        sequence: of the last item that counts. log, events: cursors. state: of the gatherer.
        void: sequences of items that were thinned: what stands for them is in the queue.
        sent: bytes that the centre has acknowledged, ever.
    """

    epoch: str
    sequence: int = 0
    log: int = -1
    events: int = -1
    state: bytes = b""
    void: list[int] = []
    sent: int = 0


async def begin_queue(client: WireClient) -> None:
    """Have a first queue begin where log and events end now; one that is there goes on where it is.

    Made before devices can connect, so that nothing acknowledged lies before the beginning. Raises `UnavailableError`.
    """
    await ensure(client, bucket_plan(BUCKET, BUCKET_BYTES))
    if await kv_get(client, BUCKET, KEY) is None:
        log, events = [int((await stream_state(client, stream))["last_seq"]) for stream in (LOG, EVENTS)]
        first = Checkpoint(secrets.token_hex(6), log=log, events=events)
        with suppress(FencedError):  # another node of the cluster was first
            await kv_put(client, BUCKET, KEY, msgspec.msgpack.encode(first), 0)


class Queue:
    """One open queue over one connection. Raises `UnavailableError` when that ends, `FencedError` when another writes.

    Attributes:
        checkpoint: the stored one. waiting: items that count and are not yet acknowledged, by lane. held: those by pipeline that
            are in no lane that leaves, since it has sent what it may.
        bytes: that the stream takes, as of the last look. bell: rings after each commit.
        sealing: held while items are chosen to be sent, and while items are replaced by others.
    """

    def __init__(self, client: WireClient, size: int) -> None:
        self.checkpoint = Checkpoint(secrets.token_hex(6))
        self.waiting: Counter[Lane] = Counter()
        self.held: Counter[str] = Counter()
        self.bytes = 0
        self.bell = Bell()
        self.sealing = asyncio.Lock()
        self._client = client
        self._plan = StreamPlan(STREAM, (f"{PREFIX}>",), size, "new")
        self._last = self._revision = 0
        self._fresh: Counter[tuple[Lane, str]] = Counter()

    @property
    def size(self) -> int:
        return self._plan.max_bytes

    def waits(self, lane: Priority) -> int:
        """Items of a lane that count and are not yet acknowledged."""
        return self.waiting[lane]

    def holding(self) -> set[str]:
        """Pipelines of which items are held, those too that do not count yet."""
        fresh = {source for lane, source in self._fresh if lane in HELD.values()}
        return fresh | {source for source, count in self.held.items() if count}

    async def open(self, life: str | None = None) -> Checkpoint:
        """Make stream and bucket where they are not there, and take back what a step before left half done.

        Args:
            life: the epoch that this machine remembers. A queue of another one comes out of a backup: its numbers went on since
                then, so it is given a new epoch. None: not asked.
        """
        await ensure(self._client, self._plan)
        await ensure(self._client, bucket_plan(BUCKET, BUCKET_BYTES))
        found = await kv_get(self._client, BUCKET, KEY)
        if found is not None:
            try:
                self.checkpoint = msgspec.msgpack.decode(found[0], type=Checkpoint)
            except msgspec.MsgspecError as error:
                raise CorruptError("the uplink's checkpoint cannot be read", where=f"{BUCKET}/{KEY}") from error
            self._revision = found[1]
        await self.roll_back()
        await self._delete(self.checkpoint.void)
        if life is not None and life != self.checkpoint.epoch:
            self.checkpoint.epoch = secrets.token_hex(6)
            await self._store(self.checkpoint)
        await self._count()
        return self.checkpoint

    async def roll_back(self) -> None:
        """Delete what was published and not committed; after a power cut raise the sequence to the checkpoint's."""
        state = await stream_state(self._client, STREAM)
        last, kept = int(state["last_seq"]), self.checkpoint.sequence
        if last < kept and not int(state["messages"]):
            await api(self._client, f"STREAM.PURGE.{STREAM}", {"seq": kept + 1})
            last = kept
        for _ in range(kept - last):
            await self._client.request(VOID, b"")
        await self._delete(range(kept + 1, last + 1))
        await api(self._client, f"STREAM.PURGE.{STREAM}", {"filter": VOID.decode()})
        self._last = max(last, kept)
        self._fresh.clear()

    async def put(self, entries: Sequence[Entry]) -> None:
        """Publish the items of a step; they count from `commit` on.

        Raises `OverloadedError` when the queue is full. After any error `roll_back` is due before the next `put`."""
        for at in range(0, len(entries), IN_FLIGHT):
            await self._put(entries[at : at + IN_FLIGHT])

    async def _put(self, entries: Sequence[Entry]) -> None:
        messages = [
            (
                f"{PREFIX}{entry.lane}.{entry.source or '-'}".encode(),
                entry.body,
                b"Nats-Expected-Last-Sequence: %d\r\n" % (self._last + at),
            )
            for at, entry in enumerate(entries)
        ]
        for answer in await store_all(self._client, messages, ACK_S):
            _check(answer.get("error"))
        self._last += len(entries)
        self._fresh.update((entry.lane, entry.source) for entry in entries)

    async def commit(self, log: int, events: int, state: bytes, sent: int, void: Iterable[int] = ()) -> None:
        """Make all that was put count, together with the state that it came with."""
        before = self.checkpoint
        now = Checkpoint(before.epoch, self._last, log, events, state, list(void), sent)
        await self._store(now)
        self.checkpoint = now
        for (lane, source), count in self._fresh.items():
            self._note(lane, source, count)
        self._fresh.clear()
        if now.void:
            await self._delete(now.void)
            await self._count()
        self.bell.ring()

    async def _store(self, checkpoint: Checkpoint) -> None:
        self._revision = await kv_put(self._client, BUCKET, KEY, msgspec.msgpack.encode(checkpoint), self._revision)

    async def read(self, lane: Lane, limit: int, most_bytes: int, after: int = 0, source: str = ">") -> list[tuple[int, bytes]]:
        """The oldest items of a lane (and of one source) that count: sequence and bytes; at least one where there is one."""
        found: list[tuple[int, bytes]] = []
        size = 0
        while len(found) < limit:
            page = await read_page(self._client, STREAM, f"{PREFIX}{lane}.{source}", after, min(PAGE, limit - len(found)))
            for stored in page:
                if stored.sequence > self.checkpoint.sequence or (found and size + len(stored.payload) > most_bytes):
                    return found
                found.append((stored.sequence, stored.payload))
                size += len(stored.payload)
            if len(page) < PAGE:
                break
            after = page[-1].sequence
        return found

    async def drop(self, lane: Priority, through: int) -> None:
        """Forget the items of a lane up to a sequence: the centre has them."""
        answer = await api(self._client, f"STREAM.PURGE.{STREAM}", {"filter": f"{PREFIX}{lane}.>", "seq": through + 1})
        self.waiting[lane] = max(0, self.waiting[lane] - int(answer.get("purged", 0)))

    async def look(self) -> None:
        """See how many bytes the stream takes."""
        self.bytes = int((await stream_state(self._client, STREAM))["bytes"])

    async def _count(self) -> None:
        info = await api(self._client, f"STREAM.INFO.{STREAM}", {"subjects_filter": f"{PREFIX}>"})
        self.bytes = int(info["state"]["bytes"])
        self.waiting.clear()
        self.held.clear()
        for subject, count in (info["state"].get("subjects") or {}).items():
            lane = next((each for each in LANES if subject.startswith(f"{PREFIX}{each}.")), None)
            if lane is not None:
                self._note(lane, subject.removeprefix(f"{PREFIX}{lane}."), count)

    def _note(self, lane: Lane, source: str, count: int) -> None:
        self.waiting[lane] += count
        if lane in HELD.values():
            self.held[source] += count

    async def _delete(self, sequences: Iterable[int]) -> None:
        for sequence in sequences:
            try:
                await api(self._client, f"STREAM.MSG.DELETE.{STREAM}", {"seq": sequence, "no_erase": True})
            except RejectedError as error:
                if _NOT_THERE not in str(error) and "no message found" not in str(error):
                    raise


def _check(error: dict[str, Any] | None) -> None:
    if not error:
        return
    if error.get("err_code") == _WRONG_LAST:
        raise FencedError("another process writes the uplink's queue", mend="this one begins again from its checkpoint")
    if error.get("err_code") in _FULL:
        raise OverloadedError(f"the uplink's queue is full: {error.get('description')}")
    raise UnavailableError(f"the uplink's queue refuses: {error.get('description')}")
