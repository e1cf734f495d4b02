"""paho's network loop in a thread of its own, bridged to asyncio. The only module that knows paho's client.

The thread posts what happened into a mailbox that the event loop empties in one go, so a busy connection costs one wake-up for
many acknowledgements. One call of `live` is one connection; what comes between two is the owner's.
"""

import asyncio
import contextlib
import socket
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple, Protocol

from paho.mqtt.client import Client, ConnectFlags, MQTTMessage, error_string
from paho.mqtt.enums import CallbackAPIVersion, MQTTErrorCode, MQTTProtocolVersion
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode

from skerry.core.errors import RejectedError, UnavailableError
from skerry.mqtt.config import Address, MqttConfig

MAIL = 10_000
GOODBYE_S = 2.0
# paho's names of the CONNACK codes 1, 2, 4 and 5
REFUSALS = {
    132: ("the broker does not speak MQTT 3.1.1", "use one that does"),
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
    """Who is told what happened, in the event loop."""

    def went_up(self, session_kept: bool) -> None: ...
    def was_acknowledged(self, mid: int) -> None: ...
    def was_answered(self, mid: int, granted: bool) -> None: ...
    def arrived(self, arrival: Arrival) -> None: ...


class Connection:
    """One client id at one broker, over as many TCP connections as it takes.

    Attributes:
        dropped: QoS 0 messages that came while `MAIL` others waited for the event loop.
    """

    def __init__(self, config: MqttConfig, address: Address, client_id: str, clean: bool, listener: Listener) -> None:
        self._address = address
        self._keep_alive = config.keep_alive
        self._listener = listener
        self._loop = asyncio.get_running_loop()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix=f"mqtt-{client_id}")
        self._living: asyncio.Future[MQTTErrorCode] | None = None
        self._mail: deque[Callable[[], None]] = deque()
        self._mail_due = False
        self._refused = 0
        self._epoch = 0
        self._ending = self._closed = False
        self.dropped = 0
        self._paho = Client(
            CallbackAPIVersion.VERSION2,
            client_id,
            clean_session=clean,
            protocol=MQTTProtocolVersion.MQTTv311,
            reconnect_on_failure=False,
            manual_ack=True,
        )
        self._paho.username_pw_set(address.username, address.password)
        self._paho.connect_timeout = config.connect_timeout
        # the owner bounds what is in flight; paho would look through its whole queue at each acknowledgement
        self._paho.max_inflight_messages_set(0)
        if (will := config.last_will) is not None:
            self._paho.will_set(will.topic, will.payload, will.qos, will.retain)
        self._paho.on_connect = self._on_connect
        self._paho.on_publish = self._on_publish
        self._paho.on_subscribe = self._on_subscribe
        self._paho.on_message = self._on_message
        self._paho.on_socket_open = _no_delay
        # with this set, paho leaves all writing to the thread that runs its loop
        self._paho.on_socket_register_write = _leave_it

    async def live(self) -> None:
        """One connection; returns when `end` has closed it. Raises `RejectedError` when refused, else `UnavailableError`."""
        self._refused, self._ending = 0, False
        self._living = self._loop.run_in_executor(self._thread, self._run)
        try:
            code = await self._living
        except (OSError, ValueError) as error:
            raise UnavailableError(f"no connection: {error}", where=self._address.url) from error
        finally:
            self._read_mail()
        if self._refused in REFUSALS:
            message, mend = REFUSALS[self._refused]
            raise RejectedError(message, where=self._address.url, mend=mend)
        if not self._ending:
            raise UnavailableError(_why(code), where=self._address.url)

    def _run(self) -> MQTTErrorCode:
        """In the thread: connect, then serve the socket until it is gone."""
        self._epoch += 1
        self._paho.connect(self._address.host, self._address.port, self._keep_alive)
        if self._closed:
            self._paho.disconnect()
        code = MQTTErrorCode.MQTT_ERR_SUCCESS
        while code == MQTTErrorCode.MQTT_ERR_SUCCESS:
            code = self._paho.loop(1.0)
        return code

    def publish(self, topic: str, payload: bytes, qos: int, retain: bool) -> int | None:
        """Hand over a message; its packet id, or None where the id whose turn it is still waits for its acknowledgement.

        Raises `ValueError`. QoS 1 and 2 are kept and sent again over the next connection.
        """
        info = self._paho.publish(topic, payload, qos, retain)
        return None if info.rc == MQTTErrorCode.MQTT_ERR_QUEUE_SIZE else info.mid

    def subscribe(self, topic: str, qos: int) -> int | None:
        """Ask for a topic filter: the packet id of the answer, or None without a connection. Raises `ValueError`."""
        return self._paho.subscribe(topic, qos)[1]

    def unsubscribe(self, topic: str) -> None:
        self._paho.unsubscribe(topic)

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
        # nothing of paho's refers to us then, so its sockets close with the last reference and not at some collection
        self._paho.on_connect = self._paho.on_publish = self._paho.on_subscribe = self._paho.on_message = None

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

    def _on_connect(self, paho: Client, _: Any, flags: ConnectFlags, code: ReasonCode, __: Properties | None) -> None:
        if code.is_failure:
            self._refused = code.value
        else:
            self._post(lambda: self._listener.went_up(flags.session_present))

    def _on_publish(self, paho: Client, _: Any, mid: int, code: ReasonCode, __: Properties) -> None:
        self._post(lambda: self._listener.was_acknowledged(mid))

    def _on_subscribe(self, paho: Client, _: Any, mid: int, codes: list[ReasonCode], __: Properties | None) -> None:
        granted = not any(code.is_failure for code in codes)
        self._post(lambda: self._listener.was_answered(mid, granted))

    def _on_message(self, paho: Client, _: Any, message: MQTTMessage) -> None:
        if message.qos == 0 and len(self._mail) >= MAIL:
            self.dropped += 1
            return
        topic, payload, retained = message.topic, bytes(message.payload), message.retain
        arrival = Arrival(topic, payload, message.qos, retained, message.dup, message.mid, self._epoch)
        self._post(lambda: self._listener.arrived(arrival))


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
