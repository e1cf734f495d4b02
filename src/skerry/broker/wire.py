"""The hot path's own client of the nats-server protocol: whole socket reads cut into frames, handed on as lists.

Protocol: docs.nats.io, "NATS client protocol" (INFO, CONNECT, SUB, PUB/HPUB, MSG/HMSG, PING/PONG). It knows nothing of streams.
It does not reconnect: `closed` tells the owner, who decides.
"""

import asyncio
import contextlib
import itertools
import json
import secrets
from collections.abc import Callable
from typing import Any, TypeVar, cast

from skerry.core.errors import UnavailableError

Frame = tuple[bytes, bytes, bytes, bytes]
"""subject, reply, header block (`NATS/1.0…` to the empty line, or nothing), payload."""
T = TypeVar("T")
Handler = Callable[[list[Frame]], None]
_HMSG, _MSG = ord("H"), ord("M")
_MESSAGES = (_HMSG, _MSG)
WRITE_BUFFER = 8 * 1024 * 1024
WINDOW_S = 0.05
FAST_BYTES_S = 600_000
LARGE_BYTES = 64 * 1024
REST_S = 0.001


class NobodyThereError(UnavailableError):
    """A request reached nobody: what was asked has surely not been done."""


class WireClient(asyncio.Protocol):
    """One connection. Handlers are called from the socket's read, with all frames of one subscription that the read brought.

    Order holds within a subscription; between subscriptions it does not.
    """

    def __init__(self, login: bytes) -> None:
        self._loop = loop = asyncio.get_running_loop()
        self.closed: asyncio.Future[str] = loop.create_future()
        self.inbox = b"_INBOX." + secrets.token_hex(11).encode()
        self.error = ""
        self.server_id = ""
        self.received_bytes = 0
        self._login = login
        self._ready: asyncio.Future[None] = loop.create_future()
        self._transport: asyncio.Transport | None = None
        self._rest = b""
        self._fast = False
        self._window = 0
        self._window_began = 0.0
        self._handlers: dict[bytes, Handler] = {}
        self._only: dict[bytes, tuple[bytes, ...]] = {}
        self._sids = itertools.count(1)
        self._replies: dict[bytes, asyncio.Future[Frame]] = {}
        self._reply_ids = itertools.count(1)
        self._pongs: list[asyncio.Future[None]] = []

    @classmethod
    async def connect(cls, host: str, port: int, user: str, password: str, name: str) -> "WireClient":
        """Connect and log in. Raises `UnavailableError` when the server does not answer within 5 s or refuses."""
        login = {"verbose": False, "pedantic": False, "user": user, "pass": password, "name": name, "lang": "skerry"}
        login |= {"version": "1", "protocol": 1, "headers": True, "no_responders": True, "echo": True}
        client = cls(b"CONNECT " + json.dumps(login).encode() + b"\r\nPING\r\n")
        try:
            async with asyncio.timeout(5):
                await asyncio.get_running_loop().create_connection(lambda: client, host, port)
                await client._ready
        except (OSError, TimeoutError) as error:
            client.close()
            why = str(error) or "time-out"
            raise UnavailableError(f"the broker at {host}:{port} does not answer: {why}") from error
        client.subscribe(client.inbox + b".*", client._on_replies)
        return client

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._transport.set_write_buffer_limits(high=WRITE_BUFFER)

    def connection_lost(self, exc: Exception | None) -> None:
        reason = self.error or (str(exc) if exc else "the server closed the connection")
        gone = UnavailableError(f"the connection to the broker ended: {reason}")
        waiting: list[asyncio.Future[Any]] = [*self._replies.values(), *self._pongs, self._ready]
        for future in waiting:
            if not future.done():
                future.set_exception(gone)
        self._replies.clear()
        if not self.closed.done():
            self.closed.set_result(reason)

    def close(self) -> None:
        """Close the connection; what was written is sent first."""
        if self._transport is not None:
            self._transport.close()

    def data_received(self, data: bytes) -> None:
        self.received_bytes += len(data)
        self._pace(len(data))
        if self._rest:
            data = self._rest + data
        position, size = 0, len(data)
        runs: dict[bytes, list[Frame]] = {}
        while True:
            end = data.find(b"\r\n", position)
            if end < 0:
                break
            kind = data[position]
            if kind in _MESSAGES:
                parts = data[position:end].split(b" ")
                body = end + 2
                stop = body + int(parts[-1])
                if stop + 2 > size:
                    break
                sid = parts[2]
                if sid in self._only and not data.startswith(self._only[sid], body):
                    position = stop + 2
                    continue
                run = runs.get(sid)
                if run is None:
                    run = runs[sid] = []
                if kind == _HMSG:
                    payload_at = body + int(parts[-2])
                    reply = parts[3] if len(parts) == 6 else b""
                    run.append((parts[1], reply, data[body:payload_at], data[payload_at:stop]))
                else:
                    run.append((parts[1], parts[3] if len(parts) == 5 else b"", b"", data[body:stop]))
                position = stop + 2
            else:
                self._control(data[position:end])
                position = end + 2
        self._rest = data[position:]
        for sid, frames in runs.items():
            handler = self._handlers.get(sid)
            if handler is not None:
                handler(frames)

    def _pace(self, size: int) -> None:
        """Read in larger pieces when there is much to read: a small piece costs as much as fifty messages of a large one.

        After a read the connection rests for a turn of the loop (which timers need, too), or for 1 ms if bytes come fast and the
        read was small. When little comes there is no rest, and no delay.
        """
        now = self._loop.time()
        self._window += size
        if now - self._window_began >= WINDOW_S:
            self._fast = self._window > FAST_BYTES_S * (now - self._window_began)
            self._window, self._window_began = 0, now
        if not self._fast or self._transport is None:
            return
        self._transport.pause_reading()
        if size < LARGE_BYTES:
            self._loop.call_later(REST_S, self._read_on)
        else:
            self._loop.call_soon(self._read_on)

    def _read_on(self) -> None:
        if self._transport is not None and not self._transport.is_closing():
            self._transport.resume_reading()

    def _control(self, line: bytes) -> None:
        if line == b"PING":
            self._write(b"PONG\r\n")
        elif line == b"PONG":
            pong = self._pongs.pop(0) if self._ready.done() and self._pongs else self._ready
            if not pong.done():
                pong.set_result(None)
        elif line.startswith(b"INFO ") and self._login:
            self._greet(line[5:])
        elif line.startswith(b"-ERR"):
            self.error = line[5:].decode(errors="replace").strip("'")

    def _greet(self, info: bytes) -> None:
        """Log in, when the server has said who it is."""
        with contextlib.suppress(ValueError):
            self.server_id = str(json.loads(info).get("server_id", ""))
        self._write(self._login)
        self._login = b""

    def _write(self, data: bytes) -> None:
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(data)

    @property
    def buffered(self) -> int:
        """Bytes written and not yet taken by the kernel."""
        return self._transport.get_write_buffer_size() if self._transport else 0

    def subscribe(self, subject: bytes, handler: Handler, queue: bytes = b"", only: tuple[bytes, ...] = ()) -> bytes:
        """Subscribe, within a queue group where one is named; answers the subscription's id.

        With `only`, frames whose header block begins with none of these are passed over before they are made.
        """
        sid = str(next(self._sids)).encode()
        self._handlers[sid] = handler
        if only:
            self._only[sid] = only
        self._write(b"SUB " + subject + b" " + (queue + b" " if queue else b"") + sid + b"\r\n")
        return sid

    def unsubscribe(self, sid: bytes) -> None:
        """End a subscription; frames of it that are under way are dropped."""
        self._only.pop(sid, None)
        if self._handlers.pop(sid, None) is not None:
            self._write(b"UNSUB " + sid + b"\r\n")

    def publish(self, subject: bytes, payload: bytes, reply: bytes = b"", header: bytes = b"") -> None:
        """Send one message; nothing is awaited. `header` is the inner lines, `Name: value\\r\\n` each."""
        to = subject + b" " + reply if reply else subject
        if header:
            block = b"NATS/1.0\r\n" + header + b"\r\n"
            total = len(block) + len(payload)
            self._write(b"HPUB %b %d %d\r\n%b%b\r\n" % (to, len(block), total, block, payload))
        else:
            self._write(b"PUB %b %d\r\n%b\r\n" % (to, len(payload), payload))

    def reply_subject(self) -> bytes:
        """A new subject under this connection's inbox."""
        return self.inbox + b".%d" % next(self._reply_ids)

    async def request(self, subject: bytes, payload: bytes, header: bytes = b"", timeout: float = 5.0) -> Frame:
        """Publish and wait for one reply. Raises `UnavailableError` on time-out, no responder, or a lost connection."""
        reply = self.reply_subject()
        future: asyncio.Future[Frame] = asyncio.get_running_loop().create_future()
        self._replies[reply] = future
        self.publish(subject, payload, reply, header)
        try:
            async with asyncio.timeout(timeout):
                frame = await self._unless_closed(future)
        except TimeoutError as error:
            raise UnavailableError(f"no answer on {subject.decode()} within {timeout:g} s") from error
        finally:
            self._replies.pop(reply, None)
        if frame[2].startswith(b"NATS/1.0 503"):
            raise NobodyThereError(f"nothing answers on {subject.decode()}")
        return frame

    async def flush(self, timeout: float = 5.0) -> None:
        """Wait until the server has taken all that was written."""
        pong: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._pongs.append(pong)
        self._write(b"PING\r\n")
        try:
            async with asyncio.timeout(timeout):
                await self._unless_closed(pong)
        except TimeoutError as error:
            raise UnavailableError("the broker does not answer a ping") from error

    async def _unless_closed(self, future: "asyncio.Future[T]") -> T:
        if self.closed.done():
            raise UnavailableError(f"the connection to the broker ended: {self.closed.result()}")
        return await future

    def _on_replies(self, frames: list[Frame]) -> None:
        for frame in frames:
            future = self._replies.get(frame[0])
            if future is not None and not future.done():
                future.set_result(frame)


def header_fields(block: bytes) -> dict[str, str]:
    """Names (lower case) and values of a header block."""
    fields = {}
    for line in block.decode(errors="replace").split("\r\n")[1:]:
        name, colon, value = line.partition(":")
        if colon:
            fields[name.strip().lower()] = value.strip()
    return fields
