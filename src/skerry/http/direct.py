"""The short way in: plain requests for routes marked `direct` are parsed here, everything else is handed to the library.

A connection begins here. A request is plain when it is HTTP/1.1 for a direct route, its path has no escapes and no query, its body
has a length, and no header asks for anything special. With the first request that is not, the connection becomes the library's,
for good: what is odd is judged in one place only.
"""

import asyncio
import re
from collections.abc import Awaitable, Callable
from email.utils import formatdate
from functools import lru_cache
from http import HTTPStatus
from typing import cast

import msgspec

from skerry.core.clock import SECOND, SystemClock
from skerry.http.messages import UNIX, Handler, Request, Response, Route
from skerry.http.peer import remote_of, user_of

_LINE = re.compile(r"(GET|POST) (/[A-Za-z0-9_.~/-]*) HTTP/1\.1")
_NAME = re.compile(r"[a-z0-9!#$%&'*+.^_`|~-]+")
_ODD = frozenset({"transfer-encoding", "expect", "upgrade", "te", "trailer", "proxy-connection"})
_MOST_HEAD = 8192
_HEADS = 256
_MOST_AHEAD = 65_536
_LINGER_S = 1.0
_CLOCK = SystemClock()
_PHRASES = {status.value: status.phrase for status in HTTPStatus}


class Bodies:
    """How many bytes of bodies are held, of all connections together.

    Args:
        most: bytes.
    """

    def __init__(self, most: int) -> None:
        self.most = most
        self.held = 0

    def take(self, size: int) -> bool:
        """Whether there is room for so many bytes more; they are held then, until `give_back`."""
        if self.held + size > self.most:
            return False
        self.held += size
        return True

    def give_back(self, size: int) -> None:
        self.held -= size


class Doors(msgspec.Struct, frozen=True):
    """What the connections of a server share.

    Attributes:
        routes: by method, the direct ones.
        answer: gives the answer to a request of a route; never raises.
        refuse: the answer of a status and a sentence, for a path.
        raised: the answer that tells what a route's `before` raised.
        library: makes the library's protocol.
        open: all connections that have not been handed over.
        heads: the last ones that were parsed, since a client sends the same one again and again.
        body: bytes of a body where the route says nothing. body_time, write_time, idle_time: seconds.
        has_room: whether an address may have another connection.
        turn_away: makes the protocol that tells it that it may not.
    """

    routes: dict[str, list[Route]]
    answer: Callable[[Route, Request], Awaitable[Response]]
    refuse: Callable[[str, int, str], Response]
    raised: Callable[[Request, Exception], Response]
    library: Callable[[], asyncio.Protocol]
    bodies: Bodies
    open: "set[Direct]"
    heads: dict[bytes, tuple[Route, Request, int]]
    body: int
    body_time: float
    write_time: float
    idle_time: float
    has_room: Callable[[str], bool]
    turn_away: Callable[[], asyncio.Protocol]


class Direct(asyncio.Protocol):
    """One connection. One request at a time: what comes meanwhile waits, and reading stops when that is much."""

    def __init__(self, doors: Doors) -> None:
        self._doors = doors
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._remote = ""
        self._by = ""
        self._data = b""  # that no request has taken
        self._route: Route | None = None
        self._request: Request | None = None  # whose body is coming
        self._parts: list[bytes] = []
        self._missing = 0
        self._held = 0
        self._task: asyncio.Task[None] | None = None
        self._ending = False
        self._reading = True
        self._unwritten = 0  # bytes of an answer that the peer does not take
        self._timer: asyncio.TimerHandle | None = None
        self._used = self._loop.time()

    @property
    def remote(self) -> str:
        """The peer's address, or `unix`."""
        return self._remote

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # a cast, since the transports of uvloop are no subclass
        self._transport = cast(asyncio.Transport, transport)
        self._remote = remote_of(transport)
        self._by = user_of(transport) if self._remote == UNIX else ""
        if self._remote != UNIX and not self._doors.has_room(self._remote):
            busy = self._doors.turn_away()
            self._transport.set_protocol(busy)
            busy.connection_made(self._transport)
            return
        self._doors.open.add(self)
        self._timer = self._loop.call_later(self._doors.idle_time, self._look)

    def connection_lost(self, error: Exception | None) -> None:
        self._forget()
        self._doors.bodies.give_back(self._unwritten)
        self._unwritten = 0
        self._parts.clear()
        if self._task is None:  # else the body is held until the handler has ended
            self._doors.bodies.give_back(self._held)
            self._held = 0

    def data_received(self, data: bytes) -> None:
        if self._ending:
            return
        if self._request is not None and self._task is None:
            self._more(data)
            return
        self._data = self._data + data if self._data else data
        if self._task is not None or self._unwritten:
            if len(self._data) > _MOST_AHEAD and self._reading:
                self._reading = False
                assert self._transport is not None
                self._transport.pause_reading()
            return
        self._next()

    def pause_writing(self) -> None:
        assert self._transport is not None
        self._unwritten = self._transport.get_write_buffer_size()
        self._doors.bodies.held += self._unwritten  # not refused any more: it is there already
        self._loop.call_later(self._doors.write_time, self._check_writing, self._unwritten)

    def resume_writing(self) -> None:
        self._doors.bodies.give_back(self._unwritten)
        self._unwritten = 0
        if self._task is None:
            self._next()

    def _check_writing(self, before: int) -> None:
        """Cut the peer off that has taken nothing for `write_time`."""
        if not self._unwritten or self._transport is None:
            return
        left = self._transport.get_write_buffer_size()
        if left >= before:
            self._transport.abort()
        else:
            self._loop.call_later(self._doors.write_time, self._check_writing, left)

    def stop(self) -> "asyncio.Task[None] | None":
        """Close when what is in work has been answered; the task that works on it."""
        self._ending = True
        if self._transport is not None and self._task is None:
            self._transport.close()
        return self._task

    def abort(self) -> None:
        """Close now, and end what is in work."""
        if self._task is not None:
            self._task.cancel()
        if self._transport is not None:
            self._transport.abort()

    def _next(self) -> None:
        """Begin the next request, when all of its head is there."""
        end = self._data.find(b"\r\n\r\n")
        if end < 0:
            # what cannot become a direct request is not waited for here
            if len(self._data) > _MOST_HEAD or (self._data and not self._may_be_direct()):
                self._hand_over()
            return
        if end > _MOST_HEAD:
            self._hand_over()
            return
        head = self._data[:end]
        heads = self._doors.heads
        found = heads.get(head)
        if found is None:
            found = self._parse(head)
            if found is None:
                self._hand_over()
                return
            if len(heads) >= _HEADS:
                heads.clear()
            heads[head] = found
        route, request, self._missing = found
        rest, self._data = self._data[end + 4 :], b""
        self._route, self._request = route, msgspec.structs.replace(request, remote=self._remote, by=self._by)
        if route.before is not None and not self._is_let_in(route.before, len(rest)):
            return
        self._more(rest)
        if self._task is None and not self._ending:
            self._body_timer()

    def _is_let_in(self, before: Callable[[Request], Request], there: int) -> bool:
        """False when the request was refused and its body is not waited for."""
        assert self._request is not None
        assert self._route is not None
        try:
            self._request = before(self._request)
        except Exception as error:  # noqa: BLE001 - the door: whatever went wrong inside is one answer outside
            if there < self._missing:
                self._end(self._doors.raised(self._request, error))
                return False
            self._route = msgspec.structs.replace(self._route, handler=_raising(error))
        return True

    def _may_be_direct(self) -> bool:
        line = self._data.split(b"\r", 1)[0]
        for method, routes in self._doors.routes.items():
            for route in routes:
                begins = f"{method} {route.fixed}".encode()
                if line.startswith(begins) or begins.startswith(line):
                    return True
        return False

    def _parse(self, head: bytes) -> tuple[Route, Request, int] | None:
        """The route, the request without its body and the size of that; None when it is not plain."""
        if not head.isascii():
            return None
        first, *lines = head.decode("ascii").split("\r\n")
        found = _LINE.fullmatch(first)
        if found is None:
            return None
        method, path = found[1], found[2]
        route = next((each for each in self._doors.routes.get(method, ()) if path.startswith(each.fixed)), None)
        if route is None:
            return None
        headers = {}
        for line in lines:
            name, colon, value = line.partition(":")
            name = name.lower()
            if not colon or _NAME.fullmatch(name) is None or name in headers or "\n" in value or "\r" in value or "\0" in value:
                return None
            headers[name] = value.strip(" \t")
        length = headers.get("content-length", "0")
        if not (length.isascii() and length.isdigit()) or len(length) > 12 or "host" not in headers or not _ODD.isdisjoint(headers):
            return None
        if headers.get("connection", "keep-alive").lower() != "keep-alive" or int(length) > (route.max_body or self._doors.body):
            return None
        return route, Request(method, path, headers=headers), int(length)

    def _more(self, data: bytes) -> None:
        """Take what came of the body; a whole one goes to its handler."""
        route, request = self._route, self._request
        assert request is not None
        assert route is not None
        if len(data) > self._missing:
            self._data = data[self._missing :]
            data = data[: self._missing]
        if not self._doors.bodies.take(len(data)):
            self._refuse(503, "too many bytes are under way; try again in a moment")
            return
        self._held += len(data)
        self._missing -= len(data)
        if self._missing:
            self._parts.append(data)
            return
        if self._parts:
            data = b"".join([*self._parts, data])
            self._parts.clear()
        self._task = self._loop.create_task(self._answer(route, msgspec.structs.replace(request, body=data)))

    async def _answer(self, route: Route, request: Request) -> None:
        try:
            self._write(await self._doors.answer(route, request))
        finally:
            self._doors.bodies.give_back(self._held)
            self._held = 0
            self._request = self._task = None
            self._used = self._loop.time()
        transport = self._transport
        if transport is None:
            return
        if self._ending:
            transport.close()
            return
        if not self._reading:
            self._reading = True
            transport.resume_reading()
        if self._data and not self._unwritten:
            self._next()

    def _write(self, given: Response, last: bool = False) -> None:
        if self._transport is None or self._transport.is_closing():
            return
        lines = [f"HTTP/1.1 {given.status} {_PHRASES.get(given.status, '')}\r\n"]
        lines += [f"{name}: {value}\r\n" for name, value in given.headers.items()]
        if last:
            lines.append("connection: close\r\n")
        lines.append(f"date: {_date(_CLOCK.now() // SECOND)}\r\ncontent-length: {len(given.body)}\r\n\r\n")
        self._transport.write("".join(lines).encode("latin-1") + given.body)

    def _refuse(self, status: int, sentence: str) -> None:
        assert self._request is not None
        self._end(self._doors.refuse(self._request.path, status, sentence))

    def _end(self, given: Response) -> None:
        """Answer, and close when the peer has had time to read that."""
        assert self._transport is not None
        self._ending = True
        self._parts.clear()
        self._doors.bodies.give_back(self._held)
        self._held = 0
        self._write(given, last=True)
        self._loop.call_later(_LINGER_S, self._transport.close)

    def _body_timer(self) -> None:
        """Give this request's body its time."""
        request = self._request

        def late() -> None:
            if self._request is request and self._task is None and not self._ending and self._transport is not None:
                self._refuse(408, "the request took too long")

        self._loop.call_later(self._doors.body_time, late)

    def _look(self) -> None:
        """Close a connection that nobody uses."""
        spent = self._loop.time() - self._used
        busy = self._task is not None or self._request is not None or self._unwritten
        if self._transport is not None and not busy and spent >= self._doors.idle_time:
            self._transport.close()
            return
        self._timer = self._loop.call_later(max(1.0, self._doors.idle_time - spent), self._look)

    def _forget(self) -> None:
        self._doors.open.discard(self)
        self._transport = None
        if self._timer is not None:
            self._timer.cancel()

    def _hand_over(self) -> None:
        """The connection is the library's from now on."""
        transport, data = self._transport, self._data
        if transport is None:
            return
        self._forget()
        protocol = self._doors.library()
        transport.set_protocol(protocol)
        protocol.connection_made(transport)
        protocol.data_received(data)


def _raising(error: Exception) -> Handler:
    async def handler(request: Request) -> Response:
        raise error

    return handler


@lru_cache(maxsize=2)
def _date(second: int) -> str:
    return formatdate(second, usegmt=True)
