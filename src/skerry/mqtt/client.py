"""A client for any MQTT 3.1.1 broker, as asyncio code wants it: acknowledged publishes, acknowledged reads, reconnects."""

import asyncio
import secrets
from collections import deque
from types import TracebackType

from skerry.core import log
from skerry.core.errors import RejectedError, SkerryError, UnavailableError
from skerry.core.service import Backoff, cancel_and_wait
from skerry.mqtt.config import MqttConfig
from skerry.mqtt.connection import Arrival, Connection
from skerry.mqtt.subscription import Message, Receipt, Subscription

STEADY_S = 5.0
# packet ids have 16 bits; the one of the oldest unacknowledged message must not come round again
MAX_SPREAD = 60_000
# mosquitto ends a connection with more than 20 open by default, whatever the client said
MOST_QOS2 = 16
_log = log.get("mqtt")


class _Outgoing:
    """A publish under way: `settled` is True when acknowledged, False when a message of QoS 0 was lost before it was written."""

    __slots__ = ("qos", "serial", "settled")

    def __init__(self, serial: int, qos: int, settled: "asyncio.Future[bool]") -> None:
        self.serial = serial
        self.qos = qos
        self.settled = settled


class MqttClient:
    """Publishes and subscribes over one connection that mends itself; to be entered once.

    Attributes:
        status: one sentence on the connection.
        reconnects: connections made after the first.
        unread: QoS 1 messages that found the buffers full; they are fetched again when there is room.
        dropped: QoS 0 messages that found the buffers full.
    """

    def __init__(self, config: MqttConfig) -> None:
        """Raises `ConfigError` for a URL that is none, `RejectedError` for a transport that is not built in."""
        self._config = config
        self._address = config.address()
        self._clean = config.clean_session or not config.client_id
        self._client_id = config.client_id or f"skerry-{secrets.token_hex(8)}"
        self.status = f"{self._address.url}: not connected yet"
        self.reconnects = -1
        self.unread = 0
        self._dropped = 0
        self._outgoing: dict[int, _Outgoing] = {}
        self._serial = 0
        self._subscriptions: list[Subscription] = []
        self._asked: dict[int, Subscription] = {}
        self._early: deque[Message] = deque()
        self._fetch = self._closed = False
        self._failure = f"{self._address.url}: no answer"

    @property
    def dropped(self) -> int:
        return self._dropped + self._connection.dropped

    @property
    def connected(self) -> bool:
        return self._up.is_set() and not self._closed

    async def __aenter__(self) -> "MqttClient":
        """Connect. Raises `RejectedError` when the broker refuses, `UnavailableError` when it is not there in time."""
        self._slots = asyncio.Semaphore(self._config.max_in_flight)
        self._qos2_slots = asyncio.Semaphore(min(MOST_QOS2, self._config.max_in_flight))
        self._up = asyncio.Event()
        self._first: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._connection = Connection(self._config, self._address, self._client_id, self._clean, self)
        self._keeping = asyncio.create_task(self._keep())
        try:
            async with asyncio.timeout(self._config.connect_timeout):
                await self._first
        except TimeoutError as error:
            await self.close()
            raise UnavailableError(self._failure, mend="check that the broker runs and can be reached") from error
        except BaseException:
            await self.close()
            raise
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        await self.close()

    async def close(self) -> None:
        """Say good-bye and end the thread; who waits in `publish` gets an `UnavailableError`, readers come to their end."""
        if self._closed:
            return
        self._closed = True
        await self._connection.close()
        await cancel_and_wait(self._keeping)
        self._up.set()
        for mid in list(self._outgoing):
            self._settle(mid, self._is_closed())
        for subscription in self._subscriptions:
            subscription.end()
        self.status = f"{self._address.url}: closed"

    async def publish(self, topic: str, payload: bytes, qos: int = 1, retain: bool = False, timeout: float | None = None) -> None:
        """Publish; returns when the broker has acknowledged (QoS 0: when it is written to the socket).

        Waits across reconnects and for a place among `max_in_flight`. Raises `RejectedError` for a topic, QoS or size that MQTT
        does not know, `UnavailableError` after `timeout` seconds or when the client is closed. What was given up on (time-out,
        cancellation) may still arrive: the broker may have it already.
        """
        try:
            async with asyncio.timeout(timeout):
                sent = False
                while not sent:
                    sent = await self._try(topic, payload, qos, retain)
        except TimeoutError as error:
            why = f"a message on {topic!r} was not acknowledged within {timeout:g} s"
            raise UnavailableError(why, mend=self.status) from error

    async def _try(self, topic: str, payload: bytes, qos: int, retain: bool) -> bool:
        slots = self._qos2_slots if qos == 2 else self._slots
        await slots.acquire()
        mid = None
        try:
            await self._may_send()
            mid = self._connection.publish(topic, payload, qos, retain)
        except ValueError as error:
            raise RejectedError(f"cannot publish on {topic!r}: {error}", where=self._address.url) from error
        finally:
            if mid is None:
                slots.release()
        if mid is None:
            return False
        self._serial += 1
        outgoing = self._outgoing[mid] = _Outgoing(self._serial, qos, asyncio.get_running_loop().create_future())
        return await asyncio.shield(outgoing.settled)

    async def _may_send(self) -> None:
        while not self._closed:
            oldest = next(iter(self._outgoing.values()), None)
            if oldest is not None and self._serial - oldest.serial > MAX_SPREAD:
                await asyncio.wait([oldest.settled])
            elif not self._up.is_set():
                await self._up.wait()
            else:
                return
        raise self._is_closed()

    def _settle(self, mid: int, outcome: bool | SkerryError) -> None:
        outgoing = self._outgoing.pop(mid, None)
        if outgoing is None:
            return
        (self._qos2_slots if outgoing.qos == 2 else self._slots).release()
        if isinstance(outcome, SkerryError):
            outgoing.settled.set_exception(outcome)
            outgoing.settled.exception()  # its waiter may have been cancelled
        else:
            outgoing.settled.set_result(outcome)

    def _is_closed(self) -> UnavailableError:
        return UnavailableError("the client was closed", where=self._address.url)

    def subscribe(self, topic: str, qos: int = 1) -> Subscription:
        """Messages of a topic filter, as an async context manager that is entered when the broker has granted it.

        Raises `RejectedError` for a QoS other than 0 and 1, and on entering for a filter that is none or not granted.
        """
        if qos not in (0, 1):
            mend = "subscribe with 1: acknowledged after the work, at least once"
            raise RejectedError(f"QoS {qos} cannot be received", where=topic, mend=mend)
        return Subscription(topic, qos, self._config.buffer, self)

    async def open(self, subscription: Subscription) -> None:
        """See `Subscription`: ask the broker, and hand over what came before anybody asked."""
        await self._may_send()
        subscription.granted = asyncio.get_running_loop().create_future()
        self._subscriptions.append(subscription)
        try:
            self._ask(subscription)
            await subscription.granted
        except BaseException:
            self._subscriptions.remove(subscription)
            raise
        early, self._early = self._early, deque()
        for message in early:
            self._hand_out(message)
        self.drained()

    async def leave(self, subscription: Subscription, unsubscribe: bool) -> None:
        """See `Subscription`: what nobody has read is kept for the next subscription of this client."""
        if unsubscribe:
            await self._may_send()
        if subscription in self._subscriptions:
            self._subscriptions.remove(subscription)
            for message in subscription.end():
                if unsubscribe:
                    message.done()
                else:
                    self._keep_early(message)
        if (unsubscribe or self._clean) and not any(other.topic == subscription.topic for other in self._subscriptions):
            self._connection.unsubscribe(subscription.topic)

    def drained(self) -> None:
        """See `Subscription`: there is room; what was left unread comes again over a new connection (MQTT 3.1.1, 4.4)."""
        if self._fetch and self._up.is_set():
            self._fetch = False
            self._up.clear()
            self._connection.end()

    def _ask(self, subscription: Subscription) -> None:
        try:
            mid = self._connection.subscribe(subscription.topic, subscription.qos)
        except ValueError as error:
            raise RejectedError(f"not a topic filter: {error}", where=subscription.topic) from error
        if mid is not None:
            self._asked[mid] = subscription

    async def _keep(self) -> None:
        """Connect again and again, until closed or refused at the first attempt."""
        loop, backoff = asyncio.get_running_loop(), Backoff(0.1, self._config.max_reconnect_delay)
        while True:
            began = loop.time()
            try:
                await self._connection.live()
            except SkerryError as error:
                self._went_down(error)
                if isinstance(error, RejectedError) and not self._first.done():
                    self._first.set_exception(error)
                    return
                if loop.time() - began > STEADY_S:
                    backoff.reset()
                await asyncio.sleep(backoff.next())
            else:
                self._went_down(None)

    def _went_down(self, error: SkerryError | None) -> None:
        self._up.clear()
        self._asked.clear()
        if error is not None:
            if self.status != (status := str(error)):
                _log.warning(f"mqtt connection: {status}", client=self._client_id)
            self.status = self._failure = status
        for mid in [mid for mid, outgoing in self._outgoing.items() if outgoing.qos == 0]:
            self._settle(mid, False)
        if not self._clean:
            for subscription in self._subscriptions:
                subscription.forget_owed()
            self._early.clear()

    def went_up(self, session_kept: bool) -> None:
        """See `Listener`. Subscribes again where the broker has no session of ours."""
        self.reconnects += 1
        self.status = f"{self._address.url}: connected"
        if session_kept:
            self._fetch = False
        for subscription in self._subscriptions:
            if not session_kept or (subscription.granted is not None and not subscription.granted.done()):
                self._ask(subscription)
        self._up.set()
        if not self._first.done():
            self._first.set_result(None)

    def was_acknowledged(self, mid: int) -> None:
        """See `Listener`."""
        self._settle(mid, True)

    def was_answered(self, mid: int, granted: bool) -> None:
        """See `Listener`. A subscription that was granted before and is no longer ends with the error."""
        subscription = self._asked.pop(mid, None)
        if subscription is None or subscription.granted is None:
            return
        error = RejectedError(
            f"the broker refuses the subscription to {subscription.topic!r}",
            where=self._address.url,
            mend="check what it permits to this client",
        )
        if not subscription.granted.done():
            subscription.granted.set_result(None) if granted else subscription.granted.set_exception(error)
        elif not granted:
            _log.warning(str(error), client=self._client_id)
            subscription.end(error)

    def arrived(self, arrival: Arrival) -> None:
        """See `Listener`."""
        receipt = Receipt(lambda: self._connection.acknowledge(arrival)) if arrival.qos else None
        self._hand_out(Message(arrival.topic, arrival.payload, arrival.qos, arrival.retained, arrival.duplicate, receipt))

    def _hand_out(self, message: Message) -> None:
        takers = [subscription for subscription in self._subscriptions if subscription.matches(message.topic)]
        if not takers:
            self._keep_early(message)
        copies = [message, *(message.for_another() for _ in takers[1:])]
        for subscription, copy in zip(takers, copies, strict=False):
            if not subscription.put(copy):
                self._leave_unread(copy)

    def _keep_early(self, message: Message) -> None:
        """A session that the broker kept sends before anybody has subscribed again."""
        if self._clean:
            message.done()
        elif message.owed and len(self._early) < self._config.buffer:
            self._early.append(message)
        elif message.owed:
            self._leave_unread(message)

    def _leave_unread(self, message: Message) -> None:
        if self._clean or not message.owed:
            self._dropped += 1
            message.done()
            return
        self.unread += 1
        if not self._fetch:
            self._fetch = True
            _log.warning("mqtt buffer full: the broker is asked again when it is read", client=self._client_id)
