"""Routes as aiohttp serves them: bodies read within their bounds, answers whole or as streams that end with the server."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Sequence
from contextlib import aclosing
from typing import TYPE_CHECKING, Any

import msgspec

from skerry.core.errors import OverloadedError
from skerry.core.service import end_chunks
from skerry.http.direct import Bodies
from skerry.http.failures import Failures, TooLargeError
from skerry.http.idle import Idle
from skerry.http.limits import Limits
from skerry.http.messages import UNIX, Request, Response, Route, Stream
from skerry.http.peer import remote_of, user_of

if TYPE_CHECKING:
    from aiohttp import web


class Library:
    """The library's side of a server.

    Attributes:
        at_work: handlers that answer now; each runs to its end also when its peer goes.
        stopping: ends streams.
    """

    def __init__(self, routes: Sequence[Route], limits: Limits, bodies: Bodies, failures: Failures, idle: Idle) -> None:
        from skerry.core.log import get  # late: clients go without

        self.at_work: set[asyncio.Task[Response | Stream]] = set()
        self.stopping = asyncio.Event()
        self._routes, self._limits, self._bodies, self._failures, self._idle = routes, limits, bodies, failures, idle
        self._log = get("http")

    def runner(self) -> "web.AppRunner":
        """What makes protocols that serve the routes."""
        from aiohttp import web  # late: only processes that serve pay for it

        app = web.Application(middlewares=[self._problems()])
        for pattern in dict.fromkeys(route.pattern for route in self._routes):
            resource = app.router.add_resource(pattern)
            for route in self._routes:
                if route.pattern == pattern:
                    resource.add_route(route.method, self._answerer(route))
                    if route.method == "GET":
                        resource.add_route("HEAD", self._answerer(route))
        return web.AppRunner(
            app, access_log=None, handler_cancellation=True, lingering_time=1.0, shutdown_timeout=self._limits.stop_time
        )

    def _answerer(self, route: Route) -> "Callable[[web.Request], Awaitable[web.StreamResponse]]":
        most = route.max_body or self._limits.body

        async def answer(request: "web.Request") -> "web.StreamResponse":
            asked = _request(request)
            if route.before is not None:
                asked = route.before(asked)
            body = await self._body(request, most)
            task = asyncio.ensure_future(route.handler(msgspec.structs.replace(asked, body=body)))
            self.at_work.add(task)
            task.add_done_callback(lambda done: self._done(done, len(body)))
            given = await asyncio.shield(task)
            if isinstance(given, Response):
                return _whole(given)
            return await self._stream(request, given)

        return answer

    def _done(self, task: "asyncio.Task[Response | Stream]", size: int) -> None:
        """The handler has ended, also where its peer went before: its body is held no longer."""
        self.at_work.discard(task)
        self._bodies.give_back(size)

    async def _body(self, request: "web.Request", most: int) -> bytes:
        """The whole body, held in `bodies` from here on."""
        length = request.content_length
        if length is not None and length > most:
            raise TooLargeError(most)
        if not request.body_exists:
            return b""
        parts: list[bytes] = []
        size = 0
        try:
            async with asyncio.timeout(self._limits.body_time):
                async for part in request.content.iter_any():
                    if size + len(part) > most:
                        raise TooLargeError(most)
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
                async with aclosing(_until(given.chunks, self.stopping)) as chunks:
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
                answer = _whole(self._failures.of_library(request, error))
            except Exception as error:  # noqa: BLE001 - the door: whatever went wrong inside is one answer outside
                answer = _whole(self._failures.of(request.method, request.path, error))
            finally:
                self._idle.end(request.protocol)
            return answer

        return problems


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
        await end_chunks(chunks, following)
