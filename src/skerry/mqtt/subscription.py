"""Messages of one topic filter, for one reader, acknowledged after the work."""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterable
from types import TracebackType
from typing import Protocol

from paho.mqtt.client import topic_matches_sub

from skerry.core.errors import SkerryError
from skerry.mqtt.connection import Arrival


class Receipt:
    """The acknowledgement that one delivery by the broker waits for, shared by all who got the message."""

    __slots__ = ("_send", "waiting")

    def __init__(self, send: Callable[[], None]) -> None:
        self.waiting = 1
        self._send = send

    def give(self) -> None:
        """One of the receivers is done; the last one's word goes to the broker."""
        self.waiting -= 1
        if self.waiting == 0:
            self._send()


class Message:
    """A message as it came in.

    Attributes:
        duplicate: the broker says that it may have sent it before.
        retained: it was kept by the broker from before the subscription.
        arrival, receipt: how it came, and what waits for `ack`; of the client's own.
    """

    __slots__ = ("arrival", "duplicate", "payload", "qos", "receipt", "retained", "topic")

    def __init__(self, arrival: Arrival, receipt: Receipt | None) -> None:
        self.arrival = arrival
        self.topic = arrival.topic
        self.payload = arrival.payload
        self.qos = arrival.qos
        self.retained = arrival.retained
        self.duplicate = arrival.duplicate
        self.receipt = receipt

    async def ack(self) -> None:
        """Tell the broker that the work is done; a second call and QoS 0 do nothing.

        Where the connection broke in between, the broker sends the message again: at least once.
        """
        self.done()

    def done(self) -> None:
        """As `ack`, for those who cannot await."""
        receipt, self.receipt = self.receipt, None
        if receipt is not None:
            receipt.give()

    def for_another(self) -> "Message":
        """A second copy for a further subscription; the broker is told when both are done."""
        if self.receipt is not None:
            self.receipt.waiting += 1
        return Message(self.arrival, self.receipt)

    def renew(self, again: "Message") -> bool:
        """Whether the other one is this one, sent again by the broker: its receipt counts from now on."""
        mine, other = self.arrival, again.arrival
        same = mine.mid == other.mid and self.owed and (mine.topic, mine.payload) == (other.topic, other.payload)
        if same:
            self.receipt = again.receipt
        return same

    @property
    def owed(self) -> bool:
        """Whether the broker still waits for our word."""
        return self.receipt is not None


def renewed(held: Iterable[Message], message: Message) -> bool:
    """Whether the broker has sent again what nobody has read yet."""
    return message.duplicate and message.owed and any(each.renew(message) for each in held)


class Source(Protocol):
    """What a subscription needs of its client."""

    async def open(self, subscription: "Subscription") -> None: ...
    async def leave(self, subscription: "Subscription", unsubscribe: bool) -> None: ...
    def drained(self) -> None: ...


class Subscription:
    """An async context manager around an async iterator of `Message`; ends when the client is closed."""

    def __init__(self, topic: str, qos: int, buffer: int, source: Source) -> None:
        self.topic = topic
        self.qos = qos
        self.granted: asyncio.Future[None] | None = None
        self._filter = topic.split("/", 2)[-1] if topic.startswith("$share/") else topic
        self._buffer = buffer
        self._source = source
        self._messages: deque[Message] = deque()
        self._news = asyncio.Event()
        self._end: SkerryError | None = None
        self._ended = False

    async def __aenter__(self) -> "Subscription":
        await self._source.open(self)
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        await self._source.leave(self, unsubscribe=False)

    async def unsubscribe(self) -> None:
        """End it at the broker too; without this, a session that is kept goes on collecting for the next reader."""
        await self._source.leave(self, unsubscribe=True)

    def __aiter__(self) -> AsyncIterator[Message]:
        return self

    async def __anext__(self) -> Message:
        """The next message. Raises `RejectedError` when the broker no longer grants the subscription."""
        while not self._messages:
            if self._ended:
                if self._end is not None:
                    raise self._end
                raise StopAsyncIteration
            self._source.drained()
            self._news.clear()
            await self._news.wait()
        return self._messages.popleft()

    def matches(self, topic: str) -> bool:
        return topic_matches_sub(self._filter, topic)

    def put(self, message: Message) -> bool:
        """Hold a message for the reader; False when the buffer is full."""
        if renewed(self._messages, message):
            return True
        if len(self._messages) >= self._buffer:
            return False
        self._messages.append(message)
        self._news.set()
        return True

    def end(self, error: SkerryError | None = None) -> list[Message]:
        """No more messages; answers those that nobody has read."""
        self._end, self._ended = error, True
        unread = list(self._messages)
        if error is None:
            self._messages.clear()
        self._news.set()
        return unread
