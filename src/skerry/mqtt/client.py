"""A client for any MQTT broker, as asyncio code wants it: acknowledged publishes, acknowledged reads, reconnects."""

import asyncio
import secrets
from collections import deque
from collections.abc import Awaitable, Callable
from types import TracebackType

from skerry.core import log
from skerry.core.errors import ConfigError, RejectedError, SkerryError, UnavailableError
from skerry.core.service import Backoff, cancel_and_wait
from skerry.mqtt.config import MqttConfig
from skerry.mqtt.connection import Arrival, Connection
from skerry.mqtt.outbox import Outbox, OutboxStore
from skerry.mqtt.sender import Sender
from skerry.mqtt.subscription import Message, Receipt, Subscription, renewed

STEADY_S = 5.0
LogIn = Callable[[], Awaitable[tuple[str, str]]]
_log = log.get("mqtt")


class MqttClient:
    """Publishes and subscribes over one connection that mends itself; to be entered once.

    Attributes:
        status: one sentence on the connection.
        reconnects: connections made after the first.
        unread: QoS 1 messages that found the buffers full; they are fetched again when there is room.
        dropped: QoS 0 messages that found the buffers full.
    """

    def __init__(self, config: MqttConfig, log_in: LogIn | None = None, outbox: OutboxStore | None = None) -> None:
        """Raises `ConfigError`.

        log_in: asked for user name and password before each connection: for what expires.
        outbox: a `KeyValueStore` that is open for as long as the client: what is published at QoS 1 and 2 is written into it first,
            and what was not acknowledged is sent again by the next client of this client id, in order.
        """
        if outbox is not None and not config.client_id:
            raise ConfigError("an outbox is found again by its client id", where="client_id", allowed="a name that stays the same")
        self._outbox = None
        if outbox is not None:
            self._outbox = Outbox(outbox, config.client_id, config.max_outbox, config.max_outbox_bytes)
        self._config = config
        self._log_in = log_in
        self._addresses = config.addresses()
        self._address = self._addresses[0]
        self._clean = config.clean_session or not config.client_id
        self._client_id = config.client_id or f"skerry-{secrets.token_hex(8)}"
        self.status = f"{self._address.url}: not connected yet"
        self.reconnects = -1
        self.unread = 0
        self._dropped = 0
        self._subscriptions: list[Subscription] = []
        self._asked: dict[int, Subscription] = {}
        self._early: deque[Message] = deque()
        self._fetch = False
        self._failure = f"{self._address.url}: no answer"

    @property
    def dropped(self) -> int:
        return self._dropped + self._connection.dropped

    @property
    def version(self) -> str:
        """Of MQTT, as it is spoken with this broker."""
        return self._connection.version

    @property
    def waiting(self) -> int:
        """Messages of the outbox that the broker has not acknowledged."""
        return self._outbox.count if self._outbox is not None else 0

    @property
    def connected(self) -> bool:
        return self._sender.up.is_set() and not self._sender.closed

    async def __aenter__(self) -> "MqttClient":
        """Connect. Raises `RejectedError` when the broker refuses, `UnavailableError` when it is not there in time."""
        self._first: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        left = await self._outbox.load() if self._outbox is not None else []
        self._connection = Connection(self._config, self._address, self._client_id, self._clean, self, self._outbox is not None)
        self._sender = Sender(self._connection, self._address.url, self._client_id, self._outbox)
        self._sender.send_left(left)
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
        if self._sender.closed:
            return
        self._sender.closed = True
        await self._connection.close()
        await cancel_and_wait(self._keeping)
        await self._sender.end()
        for subscription in self._subscriptions:
            subscription.end()
        self.status = f"{self._address.url}: closed"
        await self._connection.forget()

    async def publish(self, topic: str, payload: bytes, qos: int = 1, retain: bool = False, timeout: float | None = None) -> None:
        """Publish; returns when the broker has acknowledged (QoS 0: when it is written to the socket).

        Waits across reconnects and for a place among `max_in_flight`. Raises `RejectedError` for a topic, QoS or size that MQTT
        does not know, or that the broker does not take (MQTT 5 tells); `UnavailableError` after `timeout` seconds or
        when the client is closed; `OverloadedError` when the outbox is full. What was given up on (time-out, cancellation) may
        still arrive: the broker may have it already; from an outbox it is going to be sent.
        """
        try:
            async with asyncio.timeout(timeout):
                await self._sender.publish(topic, payload, qos, retain)
        except TimeoutError as error:
            why = f"a message on {topic!r} was not acknowledged within {timeout:g} s"
            raise UnavailableError(why, mend=self.status) from error

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
        await self._sender.may_send()
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
            await self._sender.may_send()
        if subscription in self._subscriptions:
            self._subscriptions.remove(subscription)
            for message in subscription.end():
                if unsubscribe:
                    message.done()
                else:
                    self._keep_early(message)
        if self._sender.closed:
            return
        if (unsubscribe or self._clean) and not any(other.topic == subscription.topic for other in self._subscriptions):
            self._connection.unsubscribe(subscription.topic)

    def drained(self) -> None:
        """See `Subscription`: there is room; what was left unread comes again over a new connection (MQTT 3.1.1, 4.4)."""
        if self._fetch and self._sender.up.is_set():
            self._fetch = False
            self.renew()

    def renew(self) -> None:
        """Connect again, with a new log-in; what is not acknowledged is sent again, and subscriptions go on."""
        if self._sender.up.is_set() and not self._sender.closed:
            self._sender.up.clear()
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
        refusals = 0
        while not self._sender.closed:  # one more connection would take over the one that is saying its good-bye
            began = loop.time()
            try:
                if self._log_in is not None:
                    self._connection.log_in_as(*await self._log_in())
                await self._connection.live()
            except SkerryError as error:
                self._went_down(error)
                refusals += isinstance(error, RejectedError)
                if refusals >= len(self._addresses) and not self._first.done():
                    self._first.set_exception(error)
                    return
                self._go_on()
                if loop.time() - began > STEADY_S:
                    backoff.reset()
                await asyncio.sleep(backoff.next())
            else:
                self._went_down(None)

    def _go_on(self) -> None:
        """The next broker, where there are several."""
        at = self._addresses.index(self._address) + 1
        self._address = self._addresses[at % len(self._addresses)]
        self._connection.go_to(self._address)

    def _went_down(self, error: SkerryError | None) -> None:
        self._asked.clear()
        if error is not None:
            if self.status != (status := str(error)):
                _log.warning(f"mqtt connection: {status}", client=self._client_id)
            self.status = self._failure = status
        self._sender.went_down()

    def went_up(self, session_kept: bool, receive_maximum: int) -> None:
        """See `Listener`. Subscribes again where the broker has no session of ours."""
        if not self._first.done():
            self._sender.begin(min(self._config.max_in_flight, receive_maximum))
        self.reconnects += 1
        self.status = f"{self._address.url}: connected"
        if session_kept:
            self._fetch = False
        for subscription in self._subscriptions:
            if not session_kept or (subscription.granted is not None and not subscription.granted.done()):
                self._ask(subscription)
        self._sender.up.set()
        if not self._first.done():
            self._first.set_result(None)

    def was_acknowledged(self, mid: int, refusal: str) -> None:
        """See `Listener`."""
        mend = "check what it permits to this client"
        why = f"the broker does not take the message: {refusal}"
        self._sender.settle(mid, RejectedError(why, where=self._address.url, mend=mend) if refusal else True)

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
        self._hand_out(Message(arrival, receipt))

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
        elif renewed(self._early, message):
            return
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
