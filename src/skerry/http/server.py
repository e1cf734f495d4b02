"""The server shell: routes of plain handlers on a TCP port and a Unix socket at once, everything bounded."""

import asyncio
import errno
import os
import socket
import ssl
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self

from skerry.core.errors import UnavailableError
from skerry.core.service import cancel_and_wait
from skerry.http.busy import Busy
from skerry.http.crowd import held_by
from skerry.http.direct import Bodies, Direct, Doors
from skerry.http.failures import Failures
from skerry.http.idle import Idle
from skerry.http.library import Library
from skerry.http.limits import Limits
from skerry.http.messages import Request, Response, Route
from skerry.runtime import TlsListener, listener_of

if TYPE_CHECKING:
    from aiohttp import web

_OVER_TCP_FULL = 16


class HttpServer:
    """Serves routes. `async with HttpServer(routes) as server:`, then `listen_unix` and `listen_tcp`; leaving it stops it.

    A handler's `SkerryError` becomes its problem details, anything else a 500 without a word of the inside. A handler that
    answers whole runs to its end also when the peer goes.
    """

    def __init__(self, routes: Sequence[Route], limits: Limits = Limits()) -> None:  # noqa: B008 - a frozen struct
        self._routes = routes
        self._limits = limits
        self._runner: web.AppRunner | None = None
        self._listeners: list[asyncio.Server | TlsListener] = []
        self._sockets: list[Path] = []
        self._bodies = Bodies(limits.bodies)
        self._direct: set[Direct] = set()
        self._busy: set[Busy] = set()
        self._idle = Idle(limits.idle_time)
        self._looking: asyncio.Task[None] | None = None
        self._failures = Failures(routes)
        self._library = Library(routes, limits, self._bodies, self._failures, self._idle)

    async def __aenter__(self) -> Self:
        self._runner = self._library.runner()
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
        self._library.stopping.set()
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
        for task in self._library.at_work:
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
            routes, self._answer_direct, self._failures.refused, self._raised, serving, self._bodies, self._direct, {}, limits.body,
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

    def _raised(self, request: Request, error: Exception) -> Response:
        return self._failures.of(request.method, request.path, error)


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
