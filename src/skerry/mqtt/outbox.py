"""Publishes that outlive the process: written down before they are sent, and forgotten when the broker has acknowledged them."""

from collections.abc import AsyncIterator
from typing import NamedTuple, Protocol

import msgspec

from skerry.core.errors import CorruptError, OverloadedError, RejectedError

IDS = 50_000
"""Packet ids of kept messages are 1 to so many; what else needs one takes it from above."""
_PREFIX = b"skerry.mqtt.outbox\0"
_FORM = 1
MAX_PAYLOAD = 268_435_455


class OutboxStore(Protocol):
    """What an outbox needs of a store: `skerry.KeyValueStore` has it."""

    async def set(self, key: bytes, value: bytes) -> None: ...
    async def delete(self, key: bytes, *, durable: bool = True) -> None: ...
    def scan(self, prefix: bytes = b"") -> AsyncIterator[tuple[bytes, bytes]]: ...


class Kept(NamedTuple):
    """A message that is written down. Its packet id follows from its place, so that it is the same after a restart."""

    place: int
    topic: str
    payload: bytes
    qos: int
    retain: bool

    @property
    def packet_id(self) -> int:
        return self.place % IDS + 1


def check(topic: str, payload: bytes, qos: int) -> None:
    """Raise `RejectedError` for what no broker takes (MQTT 3.1.1, 1.5.3 and 3.3.2): one that gets it ends the connection."""
    encoded = topic.encode(errors="replace")
    if not 0 < len(encoded) < 65_536 or any(mark in topic for mark in "+#\0") or encoded.decode() != topic:
        raise RejectedError(f"cannot publish on {topic!r}: it is no topic", where="topic")
    if qos not in (0, 1, 2) or len(payload) > MAX_PAYLOAD:
        mend = "publish at 0, 1 or 2, and less than 256 MiB"
        raise RejectedError(f"cannot publish {len(payload)} bytes at QoS {qos}", where=topic, mend=mend)


class Outbox:
    """The messages of one client id, in the order in which they were published.

    Attributes:
        count, size: messages that wait for their acknowledgement, and the bytes of their payloads.
    """

    def __init__(self, store: OutboxStore, client_id: str, most: int, most_bytes: int) -> None:
        self._store = store
        self._prefix = _PREFIX + client_id.encode() + b"\0"
        self._most, self._most_bytes = most, most_bytes
        self._next = 0
        self.count = 0
        self.size = 0

    async def load(self) -> list[Kept]:
        """What an earlier process has left, in order. Raises `CorruptError`."""
        found = []
        async for key, value in self._store.scan(self._prefix):
            place = int.from_bytes(key.removeprefix(self._prefix))
            try:
                form, topic, payload, qos, retain = msgspec.msgpack.decode(value, type=tuple[int, str, bytes, int, bool])
            except msgspec.MsgspecError as error:
                raise CorruptError(f"message {place} of the outbox cannot be read: {error}", where=repr(key)) from error
            if form != _FORM:
                raise CorruptError(f"the outbox was written in form {form}, this version knows {_FORM}", where=repr(key))
            found.append(Kept(place, topic, payload, qos, retain))
        self._next = found[-1].place + 1 if found else 0
        self.count, self.size = len(found), sum(len(kept.payload) for kept in found)
        return found

    async def keep(self, topic: str, payload: bytes, qos: int, retain: bool) -> Kept:
        """Write a message down; it is durable when this returns. Raises `OverloadedError`, and what the store raises."""
        if self.count >= self._most or self.size + len(payload) > self._most_bytes:
            raise OverloadedError(
                f"{self.count} messages of {self.size} bytes wait for the broker",
                where="outbox",
                mend="publish less until it is back, or raise max_outbox or max_outbox_bytes",
            )
        kept = Kept(self._next, topic, payload, qos, retain)
        self._next += 1
        self.count, self.size = self.count + 1, self.size + len(payload)
        try:
            await self._store.set(self._key(kept), msgspec.msgpack.encode((_FORM, topic, payload, qos, retain)))
        except BaseException:
            self._left(kept)
            raise
        return kept

    async def forget(self, kept: Kept) -> None:
        """The broker has it. Not synced: over a power cut it may be sent once more."""
        self._left(kept)
        await self._store.delete(self._key(kept), durable=False)

    def _left(self, kept: Kept) -> None:
        self.count, self.size = self.count - 1, self.size - len(kept.payload)

    def _key(self, kept: Kept) -> bytes:
        return self._prefix + kept.place.to_bytes(8)
