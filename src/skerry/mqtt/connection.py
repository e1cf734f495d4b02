"""paho's network loop in a thread of its own, bridged to asyncio. The only module that knows paho's client.

The thread posts what happened into a mailbox that the event loop empties in one go, so a busy connection costs one wake-up for
many acknowledgements. One call of `live` is one connection; what comes between two is the owner's.
"""

import asyncio
import contextlib
import select
import socket
import ssl
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, NamedTuple, Protocol

from paho.mqtt.client import Client, ConnectFlags, MQTTMessage, error_string
from paho.mqtt.enums import CallbackAPIVersion, MQTTErrorCode, MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode

from skerry.core.errors import RejectedError, UnavailableError
from skerry.mqtt.config import Address, MqttConfig
from skerry.mqtt.outbox import IDS, Kept
from skerry.mqtt.tls import client_context

MAIL = 10_000
READ_AT_ONCE = 200
GOODBYE_S = 2.0
NEVER = 0xFFFFFFFF  # the end of a session that has none (MQTT 5, 3.1.2.11.2)
MOST_IDS = 65_535
OTHER_VERSION = 132
# reason codes of MQTT 5; the CONNACK codes 1, 2, 4 and 5 of 3.1.1 as paho translates them
REFUSALS = {
    OTHER_VERSION: ("the broker does not speak this version of MQTT", 'set version = "auto"'),
    133: ("the broker refuses the client id", "choose another client_id, of letters, digits and '-'"),
    134: ("bad user name or password", "check username and password"),
    135: ("not authorised", "check username and password, and that the broker permits this client"),
}


class Arrival(NamedTuple):
    """A message from the broker; `epoch` numbers the connection that brought it."""

    topic: str
    payload: bytes
    qos: int
    retained: bool
    duplicate: bool
    mid: int
    epoch: int


class Listener(Protocol):
    """Who is told what happened, in the event loop. `refusal`: why the broker does not take the message, which MQTT 5 tells."""

    def went_up(self, session_kept: bool, receive_maximum: int) -> None: ...
    def was_acknowledged(self, mid: int, refusal: str) -> None: ...
    def was_answered(self, mid: int, granted: bool) -> None: ...
    def arrived(self, arrival: Arrival) -> None: ...


class _Paho(Client):
    """paho's client, which reads one packet and then writes, and goes on with a PUBREL where a message of QoS 2 was refused."""

    def loop_read(self, max_packets: int = 1) -> MQTTErrorCode:
        """Read all that has come: a write that fails, since the broker is gone, closes the socket with what was not read."""
        code, read = super().loop_read(max_packets), 1
        while code == MQTTErrorCode.MQTT_ERR_SUCCESS and read < READ_AT_ONCE and _readable(self.socket()):
            code, read = super().loop_read(max_packets), read + 1
        return code

    def _handle_pubrec(self) -> MQTTErrorCode:
        """A reason code from 0x80 on ends the exchange (MQTT 5, 4.3.3) as in a PUBACK, whose form is the same (3.4, 3.5)."""
        refused = self._protocol == MQTTProtocolVersion.MQTTv5 and self._in_packet["packet"][2:3] >= b"\x80"
        return self._handle_pubackcomp("PUBACK") if refused else super()._handle_pubrec()


class Connection:
    """One client id at one broker, over as many TCP connections as it takes.

    Attributes:
        dropped: QoS 0 messages that came while `MAIL` others waited for the event loop.
    """

    def __init__(
        self, config: MqttConfig, address: Address, client_id: str, clean: bool, listener: Listener, outbox: bool = False
    ) -> None:
        self._config = config
        self._context = client_context(config, address)
        self._address = address
        self._client_id, self._clean = client_id, clean
        # paho asks after so long without an answer, gives up after as long again, and looks once a second
        self._keep_alive = max(1, int(0.75 * config.keep_alive - 0.5))
        self._listener = listener
        self._loop = asyncio.get_running_loop()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix=f"mqtt-{client_id}")
        self._living: asyncio.Future[MQTTErrorCode] | None = None
        self._mail: deque[Callable[[], None]] = deque()
        self._mail_due = False
        self._refused = 0
        self._epoch = 0
        self._outbox, self._was_up, self._reason = outbox, False, ""
        self._came_up: tuple[bool, int] | None = None
        self._ending = self._closed = False
        self.dropped = 0
        self._login = (address.username, address.password)
        self._sent_before: list[Kept] = []
        self._other_id = IDS
        self._paho = self._make(new=config.version != "3.1.1")

    def _make(self, new: bool) -> Client:
        """paho's client, of MQTT 5 or 3.1.1; it keeps what is under way, so another one is made before there is something only."""
        self._new = new
        made = _Paho(
            CallbackAPIVersion.VERSION2,
            self._client_id,
            clean_session=None if new else self._clean,
            protocol=MQTTProtocolVersion.MQTTv5 if new else MQTTProtocolVersion.MQTTv311,
            transport="websockets" if self._address.path else "tcp",
            reconnect_on_failure=False,
            manual_ack=True,
        )
        made.username_pw_set(*self._login)
        if self._address.path:
            made.ws_set_options(self._address.path, _without_origin)
        if self._context is not None:
            made.tls_set_context(self._context)
        made.connect_timeout = self._config.connect_timeout / (1 + len(self._config.others))
        # the owner bounds what is in flight; paho would look through its whole queue at each acknowledgement
        made.max_inflight_messages_set(0)
        if (will := self._config.last_will) is not None:
            made.will_set(will.topic, will.payload, will.qos, will.retain)
        made.on_connect = self._on_connect
        made.on_publish = self._on_publish
        made.on_subscribe = self._on_subscribe
        made.on_message = self._on_message
        made.on_socket_open = _no_delay
        # with this set, paho leaves all writing to the thread that runs its loop
        made.on_socket_register_write = _leave_it
        for kept in self._sent_before:
            _next_id(made, kept.packet_id)
            made.publish(kept.topic, kept.payload, kept.qos, kept.retain)
            made._out_messages[kept.packet_id].dup = True  # noqa: SLF001 - paho has no word for "an earlier process may have sent it"
        return made

    def send_again(self, kept: list[Kept]) -> None:
        """Before the first connection: what an earlier process may have sent goes out first, marked as a duplicate."""
        self._sent_before = kept
        self._paho = self._make(self._new)

    def log_in_as(self, username: str | None, password: str | None) -> None:
        """Who the next connection says that it is."""
        self._login = (username, password)
        self._paho.username_pw_set(username, password)

    def go_to(self, address: Address) -> None:
        """Where the next connection goes: another broker of the same cluster."""
        self._address = address

    @property
    def version(self) -> str:
        return "5" if self._new else "3.1.1"

    @property
    def _may_try_other(self) -> bool:
        """Some brokers end a connection of a version that they do not speak without a word."""
        return self._config.version == "auto" and not self._was_up and not self._closed

    async def live(self) -> None:
        """One connection; returns when `end` has closed it. Raises `RejectedError` when refused, else `UnavailableError`."""
        self._refused, self._ending = 0, False
        self._living = self._loop.run_in_executor(self._thread, self._run)
        try:
            code = await self._living
        except ssl.SSLCertVerificationError as error:
            mend = "name the authority that signed it with `ca`, and the broker as its certificate does"
            why = f"the broker's certificate is not trusted: {error.verify_message}"
            raise RejectedError(why, where=self._address.url, mend=mend) from error
        except (OSError, ValueError) as error:
            raise UnavailableError(f"no connection: {error}", where=self._address.url) from error
        finally:
            self._read_mail()
        if self._may_try_other and (self._refused == OTHER_VERSION or (not self._refused and not self._ending)):
            self._paho = self._make(new=not self._new)
            if not self._new:
                await self.live()
                return
        if self._refused in REFUSALS:
            message, mend = REFUSALS[self._refused]
            raise RejectedError(message, where=self._address.url, mend=mend)
        if self._refused:
            mend = "see the broker's own log for more"
            raise UnavailableError(f"the broker refuses the connection: {self._reason.lower()}", where=self._address.url, mend=mend)
        if not self._ending:
            raise UnavailableError(_why(code), where=self._address.url)

    def _is_closed(self) -> bool:
        return self._closed

    def _run(self) -> MQTTErrorCode:
        """In the thread: connect, then serve the socket until it is gone."""
        if self._is_closed():
            return MQTTErrorCode.MQTT_ERR_SUCCESS
        self._epoch += 1
        more: dict[str, Any] = {}
        if self._new:
            session = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]  # paho's types end here
            session.SessionExpiryInterval = 0 if self._clean else NEVER
            more = {"clean_start": self._clean, "properties": session}
        self._paho.connect(self._address.host, self._address.port, self._keep_alive, **more)
        if self._is_closed():  # meanwhile
            self._paho.disconnect()
        code = MQTTErrorCode.MQTT_ERR_SUCCESS
        while code == MQTTErrorCode.MQTT_ERR_SUCCESS:
            code = self._paho.loop(1.0)
            self._tell_up()
        return code

    def _tell_up(self) -> None:
        """Behind what paho sends again at its on_connect, and before all else, so that what is new keeps its place."""
        if self._came_up is not None:
            self._post(partial(self._listener.went_up, *self._came_up))
            self._came_up = None

    def publish(self, topic: str, payload: bytes, qos: int, retain: bool, packet_id: int | None = None) -> int | None:
        """Hand over a message; its packet id, or None where the id whose turn it is still waits for its acknowledgement.

        Raises `ValueError`. QoS 1 and 2 are kept and sent again over the next connection.
        """
        if packet_id is not None:
            _next_id(self._paho, packet_id)
        info = self._paho.publish(topic, payload, qos, retain)
        return None if info.rc == MQTTErrorCode.MQTT_ERR_QUEUE_SIZE else info.mid

    def subscribe(self, topic: str, qos: int) -> int | None:
        """Ask for a topic filter: the packet id of the answer, or None without a connection. Raises `ValueError`."""
        self._take_other_id()
        return self._paho.subscribe(topic, qos)[1]

    def unsubscribe(self, topic: str) -> None:
        self._take_other_id()
        self._paho.unsubscribe(topic)

    def _take_other_id(self) -> None:
        """Where messages have ids of their own, the rest must not get one of those."""
        if self._outbox:
            self._other_id = self._other_id + 1 if self._other_id < MOST_IDS else IDS + 1
            _next_id(self._paho, self._other_id)

    def acknowledge(self, arrival: Arrival) -> None:
        """Send the PUBACK; an arrival of an earlier connection is left, since the broker sends it again."""
        if arrival.epoch == self._epoch:
            self._paho.ack(arrival.mid, arrival.qos)

    def end(self) -> None:
        """Say good-bye: `live` returns."""
        self._ending = True
        self._paho.disconnect()

    async def close(self) -> None:
        """End for good, with the thread."""
        self._closed = True
        self.end()
        if self._living is not None and not self._living.done():
            await asyncio.wait([self._living], timeout=GOODBYE_S)
            sock = self._paho.socket()
            if not self._living.done() and isinstance(sock, socket.socket):
                with contextlib.suppress(OSError):
                    sock.shutdown(socket.SHUT_RDWR)
        self._read_mail()
        self._thread.shutdown(wait=False)
        self._paho.on_connect = self._paho.on_publish = self._paho.on_subscribe = self._paho.on_message = None

    async def forget(self) -> None:
        """After `close`, when nobody uses it any more: paho's sockets close now and not at some collection."""
        if self._living is None or self._living.done():
            await asyncio.to_thread(self._thread.shutdown)
            self._living, self._epoch = None, 0
            del self._paho

    def _post(self, call: Callable[[], None]) -> None:
        self._mail.append(call)
        if not self._mail_due:
            self._mail_due = True
            with contextlib.suppress(RuntimeError):  # the event loop was closed over our head
                self._loop.call_soon_threadsafe(self._read_mail)

    def _read_mail(self) -> None:
        self._mail_due = False
        while self._mail:
            self._mail.popleft()()

    def _on_connect(self, paho: Client, _: Any, flags: ConnectFlags, code: ReasonCode, properties: Properties | None) -> None:
        if code.is_failure:
            self._refused, self._reason = code.value, str(code)
            return
        self._was_up = True
        self._came_up = (flags.session_present, int(getattr(properties, "ReceiveMaximum", MOST_IDS)))

    def _on_publish(self, paho: Client, _: Any, mid: int, code: ReasonCode, __: Properties) -> None:
        self._tell_up()
        refusal = str(code).lower() if code.is_failure else ""
        self._post(lambda: self._listener.was_acknowledged(mid, refusal))

    def _on_subscribe(self, paho: Client, _: Any, mid: int, codes: list[ReasonCode], __: Properties | None) -> None:
        self._tell_up()
        granted = not any(code.is_failure for code in codes)
        self._post(lambda: self._listener.was_answered(mid, granted))

    def _on_message(self, paho: Client, _: Any, message: MQTTMessage) -> None:
        self._tell_up()
        if message.qos == 0 and len(self._mail) >= MAIL:
            self.dropped += 1
            return
        topic, payload, retained = message.topic, bytes(message.payload), message.retain
        arrival = Arrival(topic, payload, message.qos, retained, message.dup, message.mid, self._epoch)
        self._post(lambda: self._listener.arrived(arrival))


def _readable(sock: Any) -> bool:
    return sock is not None and sock.fileno() >= 0 and bool(select.select([sock], [], [], 0)[0])


def _without_origin(headers: dict[str, str]) -> dict[str, str]:
    """Only web pages have one (RFC 6455, 4.1), and a broker may refuse those that it does not know; paho says one all the same."""
    return {name: value for name, value in headers.items() if name != "Origin"}


def _next_id(paho: Client, packet_id: int) -> None:
    """Make paho's next packet carry this id: it has no public way to send with the id of an earlier process (MQTT 3.1.1, 4.4)."""
    paho._last_mid = packet_id - 1  # noqa: SLF001 - see above


def _no_delay(paho: Client, _: Any, sock: Any) -> None:
    if isinstance(sock, socket.socket):
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


def _leave_it(paho: Client, _: Any, sock: Any) -> None:
    """See where it is set."""


def _why(code: MQTTErrorCode) -> str:
    if code == MQTTErrorCode.MQTT_ERR_CONN_LOST:
        return "the broker closed the connection"
    # paho closes the socket itself when a write fails or keep_alive has passed without an answer
    return "the connection was lost" if code == MQTTErrorCode.MQTT_ERR_NO_CONN else error_string(code)
