"""A connection with TLS: its first packet is looked at, then the way to nats-server is open both ways."""

import asyncio
import ssl
from collections.abc import Callable
from typing import cast

import msgspec

from skerry.broker.callers import Caller, Callers
from skerry.broker.connect_packet import MOST, ConnectPacket, Odd, read_connect
from skerry.broker.websocket_frame import answer_frame, frame, read_frame

LINGER_S = 10.0
_HEAD = 16 * 1024
SHORT, LONG_TOGETHER = 16 * 1024, 16 * 1024 * 1024
# what a client without a user name is called on its way to the call-out; no device id begins with $
_NOBODY = "$tls"


class Allowance:
    """Bytes of long first packets that all connections of a port may hold together, before anybody has said who it is.

    What is short is not counted, so that who sends long ones keeps only such out."""

    def __init__(self, most: int = LONG_TOGETHER) -> None:
        self.most = most
        self.held = 0

    def change(self, before: int, size: int) -> int | None:
        """What is counted of a packet that has grown to `size` bytes, None where there is no room for it; `before`: what was."""
        now = max(0, size - SHORT)
        if now > before and self.held + now - before > self.most:
            return None
        self.held += now - before
        return now


class Door(msgspec.Struct, frozen=True):
    """What the connections of a port share.

    Attributes:
        target: nats-server's plain port, asked for each connection.
        patience: seconds until a client has said who it is, and seconds until nats-server has taken it.
        websocket: what comes is MQTT over WebSocket.
        open: those that are up.
        long: what first packets may hold.
    """

    target: Callable[[], tuple[str, int]]
    callers: Callers
    patience: float
    websocket: bool
    open: "set[TlsClient]"
    long: Allowance = msgspec.field(default_factory=Allowance)


class Pipe(asyncio.Protocol):
    """One end of a connection; what it reads the other end writes, and no faster than that."""

    def __init__(self) -> None:
        self.transport: asyncio.Transport | None = None
        self.other: Pipe | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # a cast, since the transports of uvloop are no subclass
        self.transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        if self.other is not None and self.other.transport is not None:
            self.other.transport.write(data)

    def connection_lost(self, error: Exception | None) -> None:
        if self.other is not None:
            self.other.close()

    def pause_writing(self) -> None:
        if self.other is not None and self.other.transport is not None:
            self.other.transport.pause_reading()

    def resume_writing(self) -> None:
        if self.other is not None and self.other.transport is not None:
            self.other.transport.resume_reading()

    def close(self) -> None:
        """Close when all is written, or after some seconds anyhow."""
        if self.transport is not None and not self.transport.is_closing():
            self.transport.close()
            asyncio.get_running_loop().call_later(LINGER_S, self.transport.abort)

    def abort(self) -> None:
        if self.transport is not None:
            self.transport.abort()


class TlsClient(Pipe):
    """A client's end: its first bytes are looked at, then the way is open both ways."""

    def __init__(self, door: Door) -> None:
        super().__init__()
        self._door = door
        self._first = b""
        self._awaits_frame = False
        self._said = bytearray()  # what the first frames of a WebSocket held
        self._goes_on = False
        self._word = ""
        self._refused = False
        self._long = 0  # of the allowance
        self._task: asyncio.Task[None] | None = None
        self._timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self._door.open.add(self)
        self._timer = asyncio.get_running_loop().call_later(self._door.patience, self.abort)

    def data_received(self, data: bytes) -> None:
        if self._refused:
            return
        if self.other is not None and not self._awaits_frame:
            super().data_received(data)
            return
        self._first += data
        if self.other is not None:
            self._take_frame()
        elif self._task is None and (sent := self._look()):
            self._task = asyncio.get_running_loop().create_task(self._connect(sent))
        elif len(self._first) > (_HEAD if self._door.websocket and self._task is None else MOST + _HEAD):
            self.abort()
        self._count()

    def connection_lost(self, error: Exception | None) -> None:
        super().connection_lost(error)
        self._door.open.discard(self)
        self._first, self._said = b"", bytearray()
        self._count()
        if self._timer is not None:
            self._timer.cancel()
        if self._task is not None and self.other is None:
            self._task.cancel()
        if self._word:
            self._door.callers.forget(self._word)

    def _count(self) -> None:
        """Keep the allowance; who comes over it is cut."""
        counted = self._door.long.change(self._long, len(self._first) + len(self._said))
        if counted is None:
            self._first, self._said, self._refused = b"", bytearray(), True
            self.abort()
            counted = self._door.long.change(self._long, 0) or 0
        self._long = counted

    def _look(self) -> bytes:
        """What to send on first, empty while it has not all come."""
        if self._door.websocket:
            head, end, rest = self._first.partition(b"\r\n\r\n")
            if not end:
                return b""
            self._awaits_frame, self._first = True, rest
            return head + end
        data, self._first = self._first, b""
        try:
            packet = read_connect(data)
        except Odd as odd:
            self._refuse(odd.answer)
            return b""
        if packet is None:
            self._first = data
            return b""
        return self._announced(packet) + data[packet.length :]

    def _take_frame(self) -> None:
        """The first frames of a WebSocket hold the CONNECT, however it is cut (MQTT 3.1.1, section 6); it goes on in one."""
        data, at = self._first, 0
        packet: ConnectPacket | None = None
        try:
            while packet is None and (found := read_frame(data, at, goes_on=self._goes_on)) is not None:
                self._said += found.content
                at, self._goes_on = found.end, not found.final
                packet = read_connect(self._said)
        except Odd as odd:
            self._refuse(answer_frame(odd.answer) if odd.answer else b"")
            return
        self._first = data[at:]
        if packet is None:
            return
        content = self._announced(packet) + self._said[packet.length :]
        self._said = bytearray()
        self._awaits_frame, rest, self._first = False, self._first, b""
        super().data_received(frame(content, final=not self._goes_on) + rest)

    def _refuse(self, answer: bytes) -> None:
        """What is no CONNECT that can be written anew goes no further: behind this port it would pass as said on this machine."""
        self._first, self._refused = b"", True
        if answer and self.transport is not None:
            self.transport.write(answer)
        self.close()

    def _announced(self, packet: ConnectPacket) -> bytes:
        """The packet with a word in the place of the password."""
        self._word = self._door.callers.announce(Caller(self._peer, packet.username, packet.password, self._certificates()))
        return packet.with_credentials(packet.username or _NOBODY, self._word)

    @property
    def _peer(self) -> str:
        name = self.transport.get_extra_info("peername") if self.transport is not None else None
        # on a port for both kinds of addresses those of IPv4 are written in the form of IPv6
        return str(name[0]).removeprefix("::ffff:") if name else ""

    def _certificates(self) -> tuple[str, ...]:
        tls = self.transport.get_extra_info("ssl_object") if self.transport is not None else None
        found = tls.getpeercert(binary_form=True) if tls is not None else None
        return (ssl.DER_cert_to_PEM_cert(found),) if found else ()

    async def _connect(self, sent: bytes) -> None:
        assert self.transport is not None, "data came"
        self.transport.pause_reading()
        host, port = self._door.target()
        server = Pipe()
        try:
            async with asyncio.timeout(self._door.patience):
                await asyncio.get_running_loop().create_connection(lambda: server, host, port)
        except (OSError, TimeoutError):
            self.abort()
            return
        except asyncio.CancelledError:
            server.abort()
            raise
        if self.transport.is_closing():
            server.abort()
            return
        if self._timer is not None:
            self._timer.cancel()
        server.other, self.other = self, server
        Pipe.data_received(self, sent)
        rest, self._first = self._first, b""
        self._count()
        self.data_received(rest)
        self.transport.resume_reading()
