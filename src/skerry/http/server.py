"""The server shell: routes of plain handlers on a TCP port and a Unix socket at once, everything bounded."""

import asyncio
import errno
import os
import socket
import ssl
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Sequence
from contextlib import aclosing, suppress
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

import msgspec

from skerry.core.errors import OverloadedError, SkerryError, UnavailableError
from skerry.core.service import cancel_and_wait
from skerry.http.busy import Busy
from skerry.http.crowd import held_by
from skerry.http.direct import Bodies, Direct, Doors
from skerry.http.idle import Idle
from skerry.http.messages import UNIX, Request, Response, Route, Stream
from skerry.http.peer import remote_of, user_of
from skerry.http.problem import error_of, problem, problem_of
from skerry.runtime import TlsListener, listener_of

if TYPE_CHECKING:
    from aiohttp import web

_OVER_TCP_FULL = 16


class Limits(msgspec.Struct, frozen=True):
    """What one server may hold.

    Attributes:
        body: bytes of a request's body, where its route says nothing else; more is answered 413.
        bodies: bytes of all bodies that are held at one time; a request that needs more is answered 503.
        connections: over TCP and the Unix socket together; a few more are kept free for the Unix socket.
        each: connections of one address over TCP, where any route is direct.
        body_time: seconds that a request's body may take.
        write_time: seconds that a peer may take to accept one chunk of a stream before it is cut off.
        idle_time: seconds that a connection may be open without a request.
        stop_time: seconds that requests in work are given when the server stops.
    """

    body: int = 1024 * 1024
    bodies: int = 128 * 1024 * 1024
    connections: int = 256
    each: int = 192
    body_time: float = 10.0
    write_time: float = 20.0
    idle_time: float = 75.0
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
        self._listeners: list[asyncio.Server | TlsListener] = []
        self._sockets: list[Path] = []
        self._at_work: set[asyncio.Task[Response | Stream]] = set()
        self._bodies = Bodies(limits.bodies)
        self._direct: set[Direct] = set()
        self._busy: set[Busy] = set()
        self._idle = Idle(limits.idle_time)
        self._looking: asyncio.Task[None] | None = None
        self._plain = tuple(dict.fromkeys(route.fixed for route in routes if route.plain_errors))

    async def __aenter__(self) -> Self:
        from aiohttp import web  # late: only processes that serve pay for it

        app = web.Application(middlewares=[self._problems()])
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
        serving = self._runner.server
        assert serving is not None
        self._looking = asyncio.create_task(self._idle.close(lambda: serving.connections))
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        await self.stop()

    @property
    def held(self) -> int:
        """Bytes of bodies, and of answers that nobody takes, that are held now."""
        return self._bodies.held

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

    async def listen_tcp(self, host: str, port: int, tls: ssl.SSLContext | None = None) -> int:
        """Listen on a TCP address, with TLS where a context is given; port 0 asks the kernel. Returns the port.

        Raises `UnavailableError` in one sentence when the port is taken or the address is not this machine's.
        """
        most, factory = self._limits.connections, self._factory(self._limits.connections)
        try:
            if tls is not None:
                listener = TlsListener(host, port, lambda: tls, factory, most=lambda: most, each=self._limits.each)
                listener.start()
                self._listeners.append(listener)
                return listener.port
            server = await asyncio.get_running_loop().create_server(factory, host, port, reuse_address=True)
        except OSError as error:
            # asyncio puts the addresses and a tuple into strerror
            why = os.strerror(error.errno).lower() if error.errno and error.errno > 0 else str(error)
            if error.errno == errno.EADDRINUSE:
                why += f" by {listener_of(port) or 'another program'}"
            mend = "stop what listens there or choose another port"
            raise UnavailableError(f"cannot listen for HTTP: {why}", where=f"{host}:{port}", mend=mend) from error
        self._listeners.append(server)
        bound: int = server.sockets[0].getsockname()[1]
        return bound

    async def stop(self) -> None:
        """Stop listening, end streams, give what is in work `stop_time` seconds, and close every connection."""
        self._stopping.set()
        if self._looking is not None:
            await cancel_and_wait(self._looking)
        for listener in self._listeners:
            listener.close()
        self._listeners.clear()
        at_work = [each.stop() for each in list(self._direct)]
        if tasks := [task for task in at_work if task is not None]:
            await asyncio.wait(tasks, timeout=self._limits.stop_time)
            await asyncio.sleep(0)  # what was answered closes itself
        for each in list(self._direct):
            each.abort()
        for told in list(self._busy):
            told.abort()
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
        limits = self._limits
        routes: dict[str, list[Route]] = {}
        for route in self._routes:
            if route.direct:
                routes.setdefault(route.method, []).append(route)
        doors = Doors(
            routes, self._answer_direct, self._refused, self._raised, serving, self._bodies, self._direct, {}, limits.body,
            limits.body_time, limits.write_time, limits.idle_time,
            lambda remote: held_by(remote, (each.remote for each in self._direct), serving.connections) < limits.each,
            lambda: Busy(self._busy),
        )  # fmt: skip

        def accept() -> asyncio.Protocol:
            if len(serving.connections) + len(self._direct) >= most:
                return Busy(self._busy)
            return Direct(doors) if routes else serving()

        return accept

    async def _answer_direct(self, route: Route, request: Request) -> Response:
        try:
            given = await route.handler(request)
            assert isinstance(given, Response), "a direct route answers whole"
        except Exception as error:  # noqa: BLE001 - the door: whatever went wrong inside is one answer outside
            return self._raised(request, error)
        return given

    def _answerer(self, route: Route) -> "Callable[[web.Request], Awaitable[web.StreamResponse]]":
        most = route.max_body or self._limits.body

        async def answer(request: "web.Request") -> "web.StreamResponse":
            asked = _request(request)
            if route.before is not None:
                asked = route.before(asked)
            body = await self._body(request, most)
            try:
                task = asyncio.ensure_future(route.handler(msgspec.structs.replace(asked, body=body)))
                self._at_work.add(task)
                task.add_done_callback(self._at_work.discard)
                given = await asyncio.shield(task)
            finally:
                self._bodies.give_back(len(body))
            if isinstance(given, Response):
                return _whole(given)
            return await self._stream(request, given)

        return answer

    async def _body(self, request: "web.Request", most: int) -> bytes:
        """The whole body, held in `bodies` from here on."""
        length = request.content_length
        if length is not None and length > most:
            raise _TooLargeError(most)
        if not request.body_exists:
            return b""
        parts: list[bytes] = []
        size = 0
        try:
            async with asyncio.timeout(self._limits.body_time):
                async for part in request.content.iter_any():
                    if size + len(part) > most:
                        raise _TooLargeError(most)
                    if not self._bodies.take(len(part)):
                        raise OverloadedError("too many bytes are under way", mend="try again in a moment")
                    size += len(part)
                    parts.append(part)
        except BaseException:
            self._bodies.give_back(size)
            raise
        return parts[0] if len(parts) == 1 else b"".join(parts)

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
            self._log.warning("a client that reads too slowly was cut off", remote=remote_of(request.transport), path=request.path)
            if request.transport is not None:
                request.transport.abort()
        except ConnectionError:
            self._log.debug("a client left its stream", remote=remote_of(request.transport), path=request.path)
        return response

    def _problems(self) -> Any:
        from aiohttp import web  # late: only processes that serve pay for it

        @web.middleware
        async def problems(request: web.Request, handler: Any) -> web.StreamResponse:
            self._idle.begin(request.protocol)
            try:
                answer: web.StreamResponse = await handler(request)
            except web.HTTPException as error:
                answer = _whole(self._told(request.path, self._explain(request, error)))
            except Exception as error:  # noqa: BLE001 - the door: whatever went wrong inside is one answer outside
                answer = _whole(self._told(request.path, self._failed(request.method, request.path, error)))
            finally:
                self._idle.end(request.protocol)
            return answer

        return problems

    def _failed(self, method: str, path: str, error: Exception) -> Response:
        """The answer that tells what a handler raised."""
        if isinstance(error, SkerryError):
            return problem_of(error)
        if isinstance(error, _TooLargeError):
            return problem(413, f"the body is larger than {error.most} bytes", "send less at a time")
        if isinstance(error, TimeoutError):
            return problem(408, "the request took too long")
        self._log.error(f"{method} {path} failed: {error!r}", exc_info=error)
        return problem(500, "it did not work", "see the node's log")

    def _raised(self, request: Request, error: Exception) -> Response:
        return self._told(request.path, self._failed(request.method, request.path, error))

    def _refused(self, path: str, status: int, sentence: str) -> Response:
        return self._told(path, problem(status, sentence))

    def _told(self, path: str, given: Response) -> Response:
        """A problem in the form that goes with the path."""
        if not any(path == fixed.rstrip("/") or path.startswith(fixed.rstrip("/") + "/") for fixed in self._plain):
            return given
        error = error_of(given.status, given.headers["content-type"], given.body)
        kept = {**given.headers, "content-type": "application/json"}
        return Response(given.status, kept, msgspec.json.encode({"error": str(error)}))

    def _explain(self, request: "web.Request", error: "web.HTTPException") -> Response:
        if error.status == 405:
            allowed = error.headers.get("allow", "")
            return problem(405, f"{request.method} is not for {request.path}", f"allowed: {allowed}", headers={"allow": allowed})
        if error.status == 404:
            return problem(404, f"there is nothing at {request.path}", "see /api/v1/openapi.json")
        return problem(error.status, error.reason)


class _TooLargeError(Exception):
    def __init__(self, most: int) -> None:
        super().__init__(most)
        self.most = most


def _whole(given: Response) -> "web.Response":
    from aiohttp import web  # late: only processes that serve pay for it

    return web.Response(status=given.status, headers=dict(given.headers), body=given.body)


def _request(request: "web.Request") -> Request:
    """All of it but the body."""
    remote = remote_of(request.transport)
    return Request(
        method=request.method,
        path=request.path,
        params=dict(request.match_info),
        query=dict(reversed(list(request.query.items()))),
        headers={name.lower(): value for name, value in reversed(list(request.headers.items()))},
        remote=remote,
        by=user_of(request.transport) if remote == UNIX and request.transport is not None else "",
        raw_path=request.rel_url.raw_path,
    )


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
