"""The server shell: routes of plain handlers on a TCP port and a Unix socket at once, everything bounded."""

import asyncio
import os
import socket
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Sequence
from contextlib import aclosing, suppress
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, cast

import msgspec

from skerry.core.errors import SkerryError, UnavailableError
from skerry.http.messages import UNIX, Request, Response, Route, Stream
from skerry.http.problem import problem, problem_of

if TYPE_CHECKING:
    from aiohttp import web

_OVER_TCP_FULL = 16
_BUSY = b"HTTP/1.1 503 Service Unavailable\r\nretry-after: 1\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"


class Limits(msgspec.Struct, frozen=True):
    """What one server may hold.

    Attributes:
        body: bytes of a request's body; more is answered 413.
        connections: over TCP and the Unix socket together; a few more are kept free for the Unix socket.
        body_time: seconds that a request's body may take.
        write_time: seconds that a peer may take to accept one chunk of a stream before it is cut off.
        stop_time: seconds that requests in work are given when the server stops.
    """

    body: int = 1024 * 1024
    connections: int = 256
    body_time: float = 10.0
    write_time: float = 20.0
    stop_time: float = 1.5


class HttpServer:
    """Serves routes. `async with HttpServer(routes) as server:`, then `listen_unix` and `listen_tcp`; leaving it stops it.

    A handler's `SkerryError` becomes its problem details, anything else a 500 without a word of the inside. A handler that
    answers whole runs to its end also when the peer goes.
    """

    def __init__(self, routes: Sequence[Route], limits: Limits = Limits()) -> None:  # noqa: B008 - a frozen struct
        self._routes = routes
        self._limits = limits
        from skerry.core.log import get  # late: clients go without

        self._log = get("http")
        self._stopping = asyncio.Event()
        self._runner: web.AppRunner | None = None
        self._listeners: list[asyncio.Server] = []
        self._sockets: list[Path] = []
        self._at_work: set[asyncio.Task[Response | Stream]] = set()

    async def __aenter__(self) -> Self:
        from aiohttp import web  # late: only processes that serve pay for it

        app = web.Application(middlewares=[self._problems()], client_max_size=self._limits.body)
        for pattern in dict.fromkeys(route.pattern for route in self._routes):
            resource = app.router.add_resource(pattern)
            for route in self._routes:
                if route.pattern == pattern:
                    resource.add_route(route.method, self._answerer(route))
                    if route.method == "GET":
                        resource.add_route("HEAD", self._answerer(route))
        self._runner = web.AppRunner(
            app, access_log=None, handler_cancellation=True, lingering_time=1.0, shutdown_timeout=self._limits.stop_time
        )
        await self._runner.setup()
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        await self.stop()

    async def listen_unix(self, path: Path) -> None:
        """Listen on a Unix socket that only this user may open; one left over by a killed process is replaced.

        Raises `UnavailableError` when another process answers there or the place is not writable.
        """
        if await _answers(path):
            raise UnavailableError("another node answers on this socket", where=str(path), mend="stop it first")
        try:
            listener = _bind(path)
            server = await asyncio.get_running_loop().create_unix_server(
                self._factory(self._limits.connections + _OVER_TCP_FULL), sock=listener
            )
        except OSError as error:
            raise UnavailableError(
                f"cannot listen on this socket: {error.strerror or error}", where=str(path), mend="see who owns the place"
            ) from error
        self._listeners.append(server)
        self._sockets.append(path)

    async def listen_tcp(self, host: str, port: int) -> int:
        """Listen on a TCP address; port 0 asks the kernel. Returns the port.

        Raises `UnavailableError` in one sentence when the port is taken or the address is not this machine's.
        """
        try:
            server = await asyncio.get_running_loop().create_server(
                self._factory(self._limits.connections), host, port, reuse_address=True
            )
        except OSError as error:
            # asyncio puts the addresses and a tuple into strerror
            why = os.strerror(error.errno) if error.errno and error.errno > 0 else str(error)
            raise UnavailableError(
                f"cannot listen for HTTP: {why.lower()}",
                where=f"{host}:{port}",
                mend="stop what listens there or choose another port",
            ) from error
        self._listeners.append(server)
        bound: int = server.sockets[0].getsockname()[1]
        return bound

    async def stop(self) -> None:
        """Stop listening, end streams, give what is in work `stop_time` seconds, and close every connection."""
        self._stopping.set()
        for listener in self._listeners:
            listener.close()
        self._listeners.clear()
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None
        for task in self._at_work:
            task.cancel()
        for path in self._sockets:
            path.unlink(missing_ok=True)
        self._sockets.clear()

    def _factory(self, most: int) -> Callable[[], asyncio.Protocol]:
        assert self._runner is not None, "use it as `async with HttpServer(…)`"
        serving = self._runner.server
        assert serving is not None

        def accept() -> asyncio.Protocol:
            return _Busy() if len(serving.connections) >= most else serving()

        return accept

    def _answerer(self, route: Route) -> "Callable[[web.Request], Awaitable[web.StreamResponse]]":
        async def answer(request: "web.Request") -> "web.StreamResponse":
            taken = await self._take(request)
            task = asyncio.ensure_future(route.handler(taken))
            self._at_work.add(task)
            task.add_done_callback(self._at_work.discard)
            given = await asyncio.shield(task)
            if isinstance(given, Response):
                return _whole(given)
            return await self._stream(request, given)

        return answer

    async def _take(self, request: "web.Request") -> Request:
        from aiohttp import web  # late: only processes that serve pay for it

        length = request.content_length
        if length is not None and length > self._limits.body:
            raise web.HTTPRequestEntityTooLarge(max_size=self._limits.body, actual_size=length)
        async with asyncio.timeout(self._limits.body_time):
            body = await request.read()
        return Request(
            method=request.method,
            path=request.path,
            params=dict(request.match_info),
            query=dict(reversed(list(request.query.items()))),
            headers={name.lower(): value for name, value in reversed(list(request.headers.items()))},
            body=body,
            remote=_remote(request),
        )

    async def _stream(self, request: "web.Request", given: Stream) -> "web.StreamResponse":
        from aiohttp import web  # late: only processes that serve pay for it

        response = web.StreamResponse(headers=dict(given.headers))
        await response.prepare(request)
        try:
            if request.method != "HEAD":
                async with aclosing(_until(given.chunks, self._stopping)) as chunks:
                    async for chunk in chunks:
                        async with asyncio.timeout(self._limits.write_time):
                            await response.write(chunk)
            await response.write_eof()
        except TimeoutError:
            self._log.warning("a client that reads too slowly was cut off", remote=_remote(request), path=request.path)
            if request.transport is not None:
                request.transport.abort()
        except ConnectionError:
            self._log.debug("a client left its stream", remote=_remote(request), path=request.path)
        return response

    def _problems(self) -> Any:
        from aiohttp import web  # late: only processes that serve pay for it

        @web.middleware
        async def problems(request: web.Request, handler: Any) -> web.StreamResponse:
            try:
                answer: web.StreamResponse = await handler(request)
            except web.HTTPException as error:
                answer = _whole(self._explain(request, error))
            except SkerryError as error:
                answer = _whole(problem_of(error))
            except TimeoutError:
                answer = _whole(problem(408, "the request took too long"))
            except Exception as error:  # noqa: BLE001 - the door: whatever went wrong inside is one answer outside
                self._log.error(f"{request.method} {request.path} failed: {error!r}", exc_info=True)
                answer = _whole(problem(500, "it did not work", "see the node's log"))
            return answer

        return problems

    def _explain(self, request: "web.Request", error: "web.HTTPException") -> Response:
        if error.status == 413:
            return problem(413, f"the body is larger than {self._limits.body} bytes", "send less at a time")
        if error.status == 405:
            allowed = error.headers.get("allow", "")
            return problem(405, f"{request.method} is not for {request.path}", f"allowed: {allowed}", headers={"allow": allowed})
        if error.status == 404:
            return problem(404, f"there is nothing at {request.path}", "see /api/v1/openapi.json")
        return problem(error.status, error.reason)


class _Busy(asyncio.Protocol):
    """Answers a connection that is one too many and closes it."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # a cast, since the transports of uvloop are no subclass
        accepted = cast(asyncio.Transport, transport)
        accepted.write(_BUSY)
        accepted.close()


def _whole(given: Response) -> "web.Response":
    from aiohttp import web  # late: only processes that serve pay for it

    return web.Response(status=given.status, headers=dict(given.headers), body=given.body)


def _remote(request: "web.Request") -> str:
    transport = request.transport
    name = transport.get_extra_info("sockname") if transport is not None else None
    return str(request.remote) if isinstance(name, tuple) else UNIX


def _bind(path: Path) -> socket.socket:
    if path.is_socket():
        path.unlink()
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        listener.bind(str(path))
        # before listen() nobody can connect, so there is no moment with wider permissions
        path.chmod(0o600)
    except OSError:
        listener.close()
        raise
    return listener


async def _answers(path: Path) -> bool:
    try:
        _, writer = await asyncio.wait_for(asyncio.open_unix_connection(str(path)), 1.0)
    except (OSError, TimeoutError):
        return False
    writer.close()
    with suppress(OSError):
        await writer.wait_closed()
    return True


async def _until(chunks: AsyncIterator[bytes], stopping: asyncio.Event) -> AsyncGenerator[bytes, None]:
    """The chunks, ended early when the event is set; the source is closed in either case."""
    stop = asyncio.ensure_future(stopping.wait())
    following: asyncio.Future[bytes] | None = None
    try:
        while not stopping.is_set():
            following = asyncio.ensure_future(anext(chunks))
            await asyncio.wait((following, stop), return_when=asyncio.FIRST_COMPLETED)
            if not following.done():
                return
            try:
                chunk = following.result()
            except StopAsyncIteration:
                return
            yield chunk
    finally:
        stop.cancel()
        if following is not None and not following.done():
            following.cancel()
            await asyncio.wait((following,))
        close = getattr(chunks, "aclose", None)
        if close is not None:
            await close()
