"""The API as a service of the node: the Unix socket for the command line, and HTTP on loopback."""

import asyncio
from pathlib import Path

from skerry.api.config import ApiConfig
from skerry.api.guard import check
from skerry.api.handlers import Handlers
from skerry.api.view import NodeView
from skerry.core.errors import UnavailableError
from skerry.core.log import get
from skerry.core.service import Backoff
from skerry.http import Handler, HttpServer, Request, Response, Route, Stream


class Api:
    """Serves a `NodeView` until cancelled.

    `ready` is set when the Unix socket listens, `listening` when the TCP port does too. A port that is taken is tried again with
    back-off and `status` says so: the node works on without it.
    """

    def __init__(self, view: NodeView, config: ApiConfig, socket: Path, version: str) -> None:
        self.ready = asyncio.Event()
        self.listening = asyncio.Event()
        self.status = "starting"
        self.port = 0
        self._config = config
        self._socket = socket
        self._routes = [
            Route(endpoint.method, endpoint.pattern, self._guarded(endpoint.handler))
            for endpoint in Handlers(view, version).endpoints()
        ]
        self._log = get("api")

    @property
    def address(self) -> str:
        """`host:port` that listens, empty until it does."""
        host, _ = self._config.address
        return (f"[{host}]" if ":" in host else host) + f":{self.port}" if self.port else ""

    async def run(self) -> None:
        """Serve until cancelled; open streams and connections are ended within two seconds.

        Raises `UnavailableError` when the Unix socket cannot be had.
        """
        try:
            async with HttpServer(self._routes) as server:
                await server.listen_unix(self._socket)
                self.ready.set()
                await self._listen(server)
                await asyncio.Event().wait()
        finally:
            self.ready.clear()
            self.listening.clear()
            self.port, self.status = 0, "stopped"

    async def _listen(self, server: HttpServer) -> None:
        host, port = self._config.address
        backoff = Backoff(first=0.5, most=10.0)
        while not self.port:
            try:
                self.port = await server.listen_tcp(host, port)
            except UnavailableError as error:
                self.status = str(error)
                if not backoff.attempts:
                    self._log.error(f"{error}; trying again")
                await asyncio.sleep(backoff.next())
        self.listening.set()
        self.status = f"listening on http://{self.address}"
        self._log.info(self.status)

    def _guarded(self, handler: Handler) -> Handler:
        async def guarded(request: Request) -> Response | Stream:
            check(request, self._config.loopback)
            return await handler(request)

        return guarded
