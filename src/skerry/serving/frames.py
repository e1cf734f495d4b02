"""What agent and model server say to each other: length-prefixed msgpack over a Unix socket, JSON lines for the models."""

import asyncio
from collections.abc import Callable, Mapping
from typing import Generic, TypeVar, cast

import msgspec

from skerry.core import log
from skerry.core.errors import RejectedError

BODY = 64 * 1024 * 1024  # most bytes of a body, either way
_LARGE = 64 * 1024
_FRAME = BODY + 64 * 1024
_log = log.get("serving")
_encode = msgspec.msgpack.Encoder().encode
T = TypeVar("T")


class Ask(msgspec.Struct, frozen=True, array_like=True):
    """One whole HTTP request. `headers`: names in lower case; `body` as it came."""

    id: int
    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes


class Answer(msgspec.Struct, frozen=True, array_like=True):
    """The answer to the request of the same id."""

    id: int
    status: int
    headers: Mapping[str, str]
    body: bytes


class Given(msgspec.Struct, frozen=True):
    """What the server is told on stdin, one JSON object a line; the last one holds.

    Attributes:
        models: rows of `ModelConfig`; a row with `active: true` is its name's active version, else the last row of the name is.
        base: directory that relative files start from.
        socket: where to listen; counts in the first line only.
        cache: directory for optimized graphs, empty for none.
        threads: of a model run.
    """

    models: list[dict[str, object]]
    base: str
    socket: str
    cache: str = ""
    threads: int = 1


class Held(msgspec.Struct, frozen=True):
    """A version that the server has loaded: how long that took, and the bytes that the process grew by meanwhile."""

    name: str
    version: str
    memory: int
    load_seconds: float


class Frames(asyncio.Protocol, Generic[T]):
    """One end of a connection. A message is its length (4 bytes, big-endian) and msgpack.

    What is sent in one turn of the loop is one write, since a write costs more than a frame.

    Args:
        kind: what the other end sends. taken: called with the messages that came together, in order.
    """

    def __init__(self, kind: type[T], taken: "Callable[[list[T], Frames[T]], None]") -> None:
        self.lost = asyncio.get_running_loop().create_future()
        self._taken = taken
        self._decode = msgspec.msgpack.Decoder(kind).decode
        self._transport: asyncio.Transport | None = None
        self._got = bytearray()  # what came of a frame that is not whole
        self._size = 0  # of that frame with its length, 0 when that has not come
        self._out: list[bytes] = []

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # a cast, since the transports of uvloop are no subclass
        self._transport = cast(asyncio.Transport, transport)

    def connection_lost(self, error: Exception | None) -> None:
        self._transport = None
        self._out.clear()
        if not self.lost.done():
            self.lost.set_result(None)

    def send(self, message: Ask | Answer) -> None:
        """Send a message with the others of this turn; nothing happens when the connection is lost."""
        if self._transport is None:
            return
        if not self._out:
            asyncio.get_running_loop().call_soon(self._flush)
        packed = _encode(message)
        self._out += (len(packed).to_bytes(4, "big"), packed)
        if len(packed) > _LARGE:
            self._flush()

    def _flush(self) -> None:
        out, self._out = self._out, []
        if self._transport is None or not out:
            return
        if len(out[-1]) > _LARGE:  # a large one is the last, and is not copied once more
            self._transport.write(b"".join(out[:-1]))
            self._transport.write(out[-1])
        else:
            self._transport.write(b"".join(out))

    def close(self) -> None:
        if self._transport is not None:
            self._transport.close()

    def data_received(self, data: bytes) -> None:
        got = self._got
        if got:
            got += data
            if len(got) < self._size:
                return
        source: bytes | bytearray = got or data
        messages: list[T] = []
        try:
            end = self._messages(source, messages)
        except RejectedError as error:
            _log.error(f"a connection is closed: {error}")
            self.close()
            return
        if source is got:
            del got[:end]
        else:
            got += data[end:]
        if messages:
            self._taken(messages, self)

    def _messages(self, source: bytes | bytearray, messages: list[T]) -> int:
        """Decode all messages that are whole; where the rest begins. Raises `RejectedError` for what is no message."""
        at, total = 0, len(source)
        with memoryview(source) as view:
            while True:
                self._size = 0
                if total - at < 4:
                    return at
                size = int.from_bytes(view[at : at + 4], "big")
                if size > _FRAME:
                    raise RejectedError(f"a frame of {size} bytes; {_FRAME} are allowed")
                end = at + 4 + size
                if total < end:
                    self._size = 4 + size
                    return at
                try:
                    messages.append(self._decode(view[at + 4 : end]))
                except msgspec.MsgspecError as error:
                    raise RejectedError(f"a frame that is no message: {error}") from error
                at = end
