"""The centre's end: envelopes become messages of this node's own log, each once, whatever ends and however often they come.

What a sender's lane has brought is kept by its numbers. Before the messages of an envelope are written it is noted where the log
ends; where that note is found again, what lies behind it in the log is looked through before anything is written.
"""

import asyncio
import itertools
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

import msgspec

from skerry.broker import LOG, WireClient, bucket_plan, ensure, kv_get, kv_put, read_page, store_all, stream_state, to_subject
from skerry.core import log
from skerry.core.errors import OverloadedError, RejectedError, UnavailableError
from skerry.pipeline import MAX_SUBJECT, key_token, topic_level
from skerry.uplink.envelope import Header, digest_of, read_header

if TYPE_CHECKING:
    from skerry.uplink.records import Record

BUCKET, BUCKET_BYTES = "skerry_received", 64 * 1024 * 1024
PREFIX = "sites"
MOST_EPOCHS = 8
MOST_SENDERS = 10_000
MOST_AT_ONCE = 16
IN_FLIGHT = 500
ACK_S = 20.0
ITEM = "skerry-item"
_log = log.get("uplink")


class Sender(msgspec.Struct, array_like=True):
    """What is known of one node: by epoch of its queue and lane the last number that is in the log, and the log's end before an
    envelope under way (-1: none is)."""

    epochs: dict[str, dict[str, int]] = {}
    pending: int = -1

    def last(self, header: Header) -> int:
        return self.epochs.get(header.epoch, {}).get(header.lane, 0)


class Message(msgspec.Struct, frozen=True):
    """A message for the log: the item that it comes of, and its place in that."""

    topic: str
    mark: str
    payload: bytes


class Received(msgspec.Struct):
    """Since the start: envelopes, those that were there already, records, messages made of them, bytes; what was refused."""

    envelopes: int = 0
    again: int = 0
    records: int = 0
    messages: int = 0
    bytes: int = 0
    refused: int = 0


class Receiver:
    """Takes envelopes into a log, one at a time of each sender.

    Attributes:
        counts: see `Received`. floors: by sender, the log's sequence behind which it must not be trimmed now.
    """

    def __init__(self, taken: "Callable[[Sequence[Record]], Awaitable[None]]") -> None:
        """`taken` is called with the records of each envelope when they are in the log."""
        self.counts = Received()
        self._taken = taken
        self.floors: dict[str, int] = {}
        self.known = False
        self._client: WireClient | None = None
        self._busy: dict[str, asyncio.Lock] = {}
        self._under_way = 0

    async def attach(self, client: WireClient) -> None:
        """Work over this connection from now on; what senders have under way is known then."""
        await ensure(client, bucket_plan(BUCKET, BUCKET_BYTES))
        floors: dict[str, int] = {}
        after = 0
        while page := await read_page(client, f"KV_{BUCKET}", f"$KV.{BUCKET}.sender.>", after, 100):
            after = page[-1].sequence
            for stored in page:
                sender = msgspec.msgpack.decode(stored.payload, type=Sender)
                if sender.pending >= 0:
                    floors[stored.subject.removeprefix(f"$KV.{BUCKET}.")] = sender.pending
        self.floors, self._client, self.known = floors, client, True

    def floor(self) -> int | None:
        """The log's sequence up to which it may be trimmed; None: all of it."""
        return min(self.floors.values(), default=None)

    async def receive(self, envelope: bytes, node: str = "", site: str = "") -> str:
        """Answer the envelope's digest when all that it holds is in the log.

        Args:
            node, site: who the caller has proved to be; empty: whoever the envelope says.

        Raises `RejectedError` for what is no envelope or another node's, `OverloadedError` while 16 are under way,
        `UnavailableError`."""
        if self._under_way >= MOST_AT_ONCE:
            raise OverloadedError(f"{MOST_AT_ONCE} envelopes are under way", mend="try again in a moment")
        self._under_way += 1
        try:
            return await self._receive(envelope, node, site)
        except RejectedError:
            self.counts.refused += 1
            raise
        finally:
            self._under_way -= 1

    async def _receive(self, envelope: bytes, node: str, site: str) -> str:
        header = read_header(envelope)
        _check_names(header, node, site)
        from skerry.uplink.records import decode  # late: it brings numpy, 16 MB that a node without others below it does not need

        records = await asyncio.to_thread(decode, envelope)
        if header.count:
            key = _key_of(header)
            # a caller who leaves must not leave half of it
            await asyncio.shield(self._one_at_a_time(key, header, records, len(envelope)))
        return digest_of(envelope)

    async def holds(self, envelope: bytes) -> bool:
        """Whether all that an envelope has is in the log already; what is no envelope is not. Raises `UnavailableError`."""
        try:
            header = read_header(envelope)
        except RejectedError:
            return False
        found = await kv_get(self._attached(), BUCKET, _key_of(header)) if header.count else None
        return found is not None and header.last <= msgspec.msgpack.decode(found[0], type=Sender).last(header)

    async def _one_at_a_time(self, key: str, header: Header, records: "Sequence[Record]", size: int) -> None:
        if key not in self._busy and len(self._busy) >= MOST_SENDERS:
            raise UnavailableError(f"more than {MOST_SENDERS} nodes send to this one")
        async with self._busy.setdefault(key, asyncio.Lock()):
            await self._take(key, header, records, size)

    async def _take(self, key: str, header: Header, records: "Sequence[Record]", size: int) -> None:
        client = self._attached()
        found = await kv_get(client, BUCKET, key)
        sender = msgspec.msgpack.decode(found[0], type=Sender) if found else Sender()
        revision = found[1] if found else 0
        last = sender.last(header)
        if header.last <= last:
            self.counts.again += 1
            return
        records = [record for record in records if record.sequence > last]
        known: set[str] = set()
        if sender.pending >= 0:
            known = await _marks_behind(client, header, sender.pending)
        else:
            sender.pending = int((await stream_state(client, LOG))["last_seq"])
            self.floors[key] = sender.pending
            revision = await kv_put(client, BUCKET, key, msgspec.msgpack.encode(sender), revision)
        written = 0
        fresh = (each for each in messages_of(header, records) if each.mark not in known)
        while chunk := list(itertools.islice(fresh, IN_FLIGHT)):
            await _store(client, header, chunk)
            written += len(chunk)
        lanes = sender.epochs.pop(header.epoch, {})
        sender.epochs[header.epoch] = {**lanes, header.lane: header.last}
        while len(sender.epochs) > MOST_EPOCHS:
            sender.epochs.pop(next(iter(sender.epochs)))
        sender.pending = -1
        await kv_put(client, BUCKET, key, msgspec.msgpack.encode(sender), revision)
        self.floors.pop(key, None)
        self._note(len(records), written, size)
        await self._taken(records)

    def _attached(self) -> WireClient:
        if self._client is None or self._client.closed.done():
            raise UnavailableError("the log is not there yet", mend="try again in a moment")
        return self._client

    def _note(self, records: int, messages: int, size: int) -> None:
        counts = self.counts
        counts.envelopes += 1
        counts.records += records
        counts.messages += messages
        counts.bytes += size


def messages_of(header: Header, records: "Iterable[Record]") -> Iterator[Message]:
    """The messages that records become, one each: `sites/<site>/<node>/<topic>`; without those whose topic is too long for one."""
    for record in records:
        topic = "/".join((PREFIX, header.site, header.node, *map(topic_level, record.topic.split("/"))))
        if 2 * len(topic.encode()) <= MAX_SUBJECT:
            yield Message(topic, f"{header.epoch}.{header.lane}.{record.sequence}.{record.index}", record.payload)


def _key_of(header: Header) -> str:
    return f"sender.{key_token(header.site)}.{key_token(header.node)}"


def _check_names(header: Header, node: str, site: str) -> None:
    for name in (header.site, header.node, header.epoch):
        if not name or len(name) > 128 or topic_level(name) != name or "*" in name or ">" in name:
            raise RejectedError(f"{name[:80]!r} is no name of a site or a node")
    if (node and node != header.node) or (site and site != header.site):
        told = f"{header.site}/{header.node}"
        raise RejectedError(f"an envelope of {told!r} from {f'{site}/{node}' if site else node!r}", mend="each node sends its own")


async def _marks_behind(client: WireClient, header: Header, after: int) -> set[str]:
    """Marks of this sender's messages behind a sequence of the log."""
    found: set[str] = set()
    subject = f"$MQTT.msgs.{to_subject(f'{PREFIX}/{header.site}/{header.node}')}.>"
    while page := await read_page(client, LOG, subject, after):
        after = page[-1].sequence
        found.update(stored.headers[ITEM] for stored in page if ITEM in stored.headers)
    return found


async def _store(client: WireClient, header: Header, messages: Sequence[Message]) -> None:
    """Write them as a device's QoS 1 publishes stand there, and hand them to who subscribes at QoS 0.

    Raises `UnavailableError` unless all are stored."""
    written = []
    for message in messages:
        head = f"Nmqtt-Pub: 1\r\nSkerry-Item: {message.mark}\r\nNats-Msg-Id: {header.site}/{header.node}.{message.mark}\r\n"
        written.append((f"$MQTT.msgs.{to_subject(message.topic)}".encode(), message.payload, head.encode()))
    for answer in await store_all(client, written, ACK_S):
        if answer.get("error"):
            raise UnavailableError(f"the log does not take what came: {answer['error'].get('description')}")
    for message in messages:
        client.publish(to_subject(message.topic).encode(), message.payload, b"", b"Nmqtt-Pub: 1\r\n")
