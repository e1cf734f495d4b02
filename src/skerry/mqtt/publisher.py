"""A publisher for the broker next door: MQTT 3.1.1 at QoS 0 and 1 on the event loop, without a thread.

The node sends every event through it, and its partner is always the node's own nats-server; with paho in a thread the agent spent
three times the CPU an event. It does not reconnect and sends nothing again: when the connection ends, all who wait get an
`UnavailableError`, and the relay, which has the event log behind it, sends again on a new one.
"""

import asyncio
from typing import cast

from skerry.core.errors import RejectedError, UnavailableError

KEEP_ALIVE_S = 30
CONNECT_S = 10.0
IN_FLIGHT = 1000
MOST_IDS = 65_535
_CONNACK, _PUBACK, _PINGRESP = 0x20, 0x40, 0xD0


class Publisher(asyncio.Protocol):
    """One connection; make it with `connect`."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._connected: asyncio.Future[None] = self._loop.create_future()
        self._waiting: dict[int, asyncio.Future[None]] = {}
        self._last_id = 0
        self._room = asyncio.Semaphore(IN_FLIGHT)
        self._rest = b""
        self._ping: asyncio.TimerHandle | None = None
        self._answered = True
        self.closed = False

    @classmethod
    async def connect(cls, host: str, port: int, client_id: str, username: str, password: str) -> "Publisher":
        """Connect and log in. Raises `RejectedError` when the broker refuses, `UnavailableError` when it does not answer."""
        publisher = cls()
        flags = 0x02 | 0x80 | 0x40
        body = _text("MQTT") + bytes([4, flags]) + KEEP_ALIVE_S.to_bytes(2, "big")
        body += _text(client_id) + _text(username) + _text(password)
        try:
            async with asyncio.timeout(CONNECT_S):
                await publisher._loop.create_connection(lambda: publisher, host, port)
                publisher._write(b"\x10" + _length(len(body)) + body)
                await publisher._connected
        except (OSError, TimeoutError) as error:
            publisher.close()
            why = str(error) or "time-out"
            raise UnavailableError(f"the broker at {host}:{port} takes no MQTT connection: {why}") from error
        publisher._keep_alive()
        return publisher

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def connection_lost(self, exc: Exception | None) -> None:
        self.closed = True
        if self._ping is not None:
            self._ping.cancel()
        gone = UnavailableError(f"the MQTT connection to the broker ended{f': {exc}' if exc else ''}")
        for future in [self._connected, *self._waiting.values()]:
            if not future.done():
                future.set_exception(gone)
        self._waiting.clear()

    def close(self) -> None:
        """End the connection; who waits for an acknowledgement gets an `UnavailableError`."""
        self.closed = True
        if self._transport is not None:
            self._write(b"\xe0\x00")
            self._transport.close()

    async def publish(self, topic: str, payload: bytes, qos: int = 1, retain: bool = False) -> None:
        """Publish; at QoS 1 return when acknowledged. At most 1,000 are under way, others wait. Raises `UnavailableError`."""
        head = _text(topic)
        if qos == 0:
            self._check()
            self._write(bytes([0x30 | retain]) + _length(len(head) + len(payload)) + head + payload)
            return
        async with self._room:
            self._check()
            number = self._next_id()
            future: asyncio.Future[None] = self._loop.create_future()
            self._waiting[number] = future
            size = _length(len(head) + 2 + len(payload))
            self._write(b"".join((bytes([0x32 | retain]), size, head, number.to_bytes(2, "big"), payload)))
            await future

    def _next_id(self) -> int:
        """A packet id that is not under way. Counted: `itertools.cycle` keeps all that it has given, and that is 2.5 MB."""
        while True:
            self._last_id = self._last_id % MOST_IDS + 1
            if self._last_id not in self._waiting:
                return self._last_id

    def _check(self) -> None:
        if self.closed:
            raise UnavailableError("the MQTT connection to the broker has ended")

    def _write(self, data: bytes) -> None:
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(data)

    def data_received(self, data: bytes) -> None:
        data = self._rest + data
        position = 0
        while len(data) - position >= 2 and len(data) - position >= 2 + data[position + 1]:
            kind, body = data[position], position + 2
            if kind == _PUBACK:
                future = self._waiting.pop(data[body] << 8 | data[body + 1], None)
                if future is not None and not future.done():
                    future.set_result(None)
            elif kind == _CONNACK and not self._connected.done():
                self._answer_connect(data[body + 1])
            elif kind == _PINGRESP:
                self._answered = True
            position = body + data[position + 1]
        self._rest = data[position:]

    def _answer_connect(self, code: int) -> None:
        if code == 0:
            self._connected.set_result(None)
        else:
            self._connected.set_exception(RejectedError(f"the broker refuses the node's own MQTT connection (code {code})"))

    def _keep_alive(self) -> None:
        """Ping every half keep-alive; an unanswered ping means that nobody is there."""
        if not self._answered and self._transport is not None:
            self._transport.abort()
            return
        self._answered = False
        self._write(b"\xc0\x00")
        self._ping = self._loop.call_later(KEEP_ALIVE_S / 2, self._keep_alive)


def _text(value: str) -> bytes:
    encoded = value.encode()
    return len(encoded).to_bytes(2, "big") + encoded


def _length(size: int) -> bytes:
    """The remaining-length field (MQTT 3.1.1, 2.2.3)."""
    field = bytearray()
    while True:
        size, low = divmod(size, 128)
        field.append(low | 128 if size else low)
        if not size:
            return bytes(field)
