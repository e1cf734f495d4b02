"""What a client publishes: a bounded number under way, each settled by the word of the broker; an outbox keeps them until then."""

import asyncio

from skerry.core import log
from skerry.core.errors import RejectedError, SkerryError, UnavailableError
from skerry.mqtt.connection import Connection
from skerry.mqtt.outbox import Kept, Outbox, check

# packet ids have 16 bits; the one of the oldest unacknowledged message must not come round again
MAX_SPREAD = 45_000
# mosquitto ends a connection with more than 20 open by default, whatever the client said
MOST_QOS2 = 16
# what is sent again before the broker has said how much it takes at once: every broker takes these
MOST_SENT = 16
_log = log.get("mqtt")


class _Outgoing:
    """A publish under way: `settled` is True when acknowledged, False when a message of QoS 0 was lost before it was written."""

    __slots__ = ("qos", "serial", "settled", "slots")

    def __init__(self, serial: int, qos: int, settled: "asyncio.Future[bool]", slots: asyncio.Semaphore | None) -> None:
        self.serial = serial
        self.qos = qos
        self.settled = settled
        self.slots = slots


class Sender:
    """The sending half of a client. `up`: set while there is a connection; `closed`: for good."""

    def __init__(self, connection: Connection, url: str, client_id: str, outbox: Outbox | None) -> None:
        self.up = asyncio.Event()
        self.closed = False
        self._connection = connection
        self._url, self._client_id = url, client_id
        self._outbox = outbox
        self._tasks: set[asyncio.Task[None]] = set()
        self._outgoing: dict[int, _Outgoing] = {}
        self._serial = 0
        self._left: list[Kept] = []
        self._slots = self._qos2_slots = asyncio.Semaphore(1)

    def send_left(self, left: list[Kept]) -> None:
        """Before the first connection: what an earlier process has left; what it may have sent goes first, with its packet ids."""
        if self._outbox is None or not left:
            return
        _log.info(f"{len(left)} messages of the outbox are sent again", client=self._client_id)
        sent, self._left = left[:MOST_SENT], left[MOST_SENT:]
        self._connection.send_again(sent)
        for kept in sent:
            self._send(kept, self._track(kept.packet_id, kept.qos, None))

    def begin(self, most: int) -> None:
        """The first connection is up: so many may be under way at once, the rest of what was left before all that is new."""
        self._slots, self._qos2_slots = asyncio.Semaphore(most), asyncio.Semaphore(min(MOST_QOS2, most))
        left, self._left = self._left, []
        for kept in left:
            self._send(kept)

    async def publish(self, topic: str, payload: bytes, qos: int, retain: bool) -> None:
        """See `MqttClient.publish`."""
        check(topic, payload, qos)
        if self._outbox is not None and qos:
            if self.closed:
                raise self._is_closed()
            kept = await self._outbox.keep(topic, payload, qos, retain)
            await asyncio.shield(self._send(kept))
            return
        sent = False
        while not sent:
            outgoing = await self._hand_over(topic, payload, qos, retain)
            sent = await asyncio.shield(outgoing.settled)

    def _send(self, kept: Kept, under_way: _Outgoing | None = None) -> asyncio.Task[None]:
        """A task of its own, since a caller that gives up takes nothing out of the outbox."""
        outbox = self._outbox
        assert outbox is not None

        async def work() -> None:
            _, topic, payload, qos, retain = kept
            try:
                outgoing = under_way or await self._hand_over(topic, payload, qos, retain, kept.packet_id)
                await outgoing.settled
            except RejectedError as error:
                _log.warning(f"a message of the outbox was given up: {error}", client=self._client_id)
                await outbox.forget(kept)  # the broker does not want it, now or later
                raise
            await outbox.forget(kept)

        task = asyncio.create_task(work())
        self._tasks.add(task)
        task.add_done_callback(self._sent)
        return task

    def _sent(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled():
            task.exception()  # its caller may have given up

    async def _hand_over(self, topic: str, payload: bytes, qos: int, retain: bool, packet_id: int | None = None) -> _Outgoing:
        """Wait for a place and a connection, then give it to paho."""
        slots = self._qos2_slots if qos == 2 else self._slots
        await slots.acquire()
        mid = None
        try:
            while mid is None:
                await self.may_send()
                mid = self._connection.publish(topic, payload, qos, retain, packet_id)
        except ValueError as error:
            raise RejectedError(f"cannot publish on {topic!r}: {error}", where=self._url) from error
        finally:
            if mid is None:
                slots.release()
        return self._track(mid, qos, slots)

    def _track(self, mid: int, qos: int, slots: asyncio.Semaphore | None) -> _Outgoing:
        self._serial += 1
        settled: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        outgoing = self._outgoing[mid] = _Outgoing(self._serial, qos, settled, slots)
        return outgoing

    async def may_send(self) -> None:
        """Wait for a connection. Raises `UnavailableError` when the client was closed."""
        while not self.closed:
            oldest = next(iter(self._outgoing.values()), None)
            if oldest is not None and self._serial - oldest.serial > MAX_SPREAD:
                await asyncio.wait([oldest.settled])
            elif not self.up.is_set():
                await self.up.wait()
            else:
                return
        raise self._is_closed()

    def settle(self, mid: int, outcome: bool | SkerryError) -> None:
        """The broker's word on a packet id, or why there will be none."""
        outgoing = self._outgoing.pop(mid, None)
        if outgoing is None:
            return
        if outgoing.slots is not None:
            outgoing.slots.release()
        if isinstance(outcome, SkerryError):
            outgoing.settled.set_exception(outcome)
            outgoing.settled.exception()  # its waiter may have been cancelled
        else:
            outgoing.settled.set_result(outcome)

    def went_down(self) -> None:
        """Messages of QoS 0 that were not written are lost; the rest is sent again by paho."""
        self.up.clear()
        for mid in [mid for mid, outgoing in self._outgoing.items() if outgoing.qos == 0]:
            self.settle(mid, False)

    async def end(self) -> None:
        """Who waits gets an `UnavailableError`; what an outbox keeps stays in it."""
        self.closed = True
        self.up.set()
        for mid in list(self._outgoing):
            self.settle(mid, self._is_closed())
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _is_closed(self) -> UnavailableError:
        return UnavailableError("the client was closed", where=self._url)
