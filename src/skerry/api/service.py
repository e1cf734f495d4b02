"""The API as a service of the node: the Unix socket for the command line, and HTTP, each request through the gate."""

import asyncio
import ssl
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from skerry.api.config import ApiConfig
from skerry.api.endpoints import Noted
from skerry.api.gate import Audit, Gate
from skerry.api.scopes import Scope, scope_of
from skerry.api.tokens import TokenStore
from skerry.api.view import NodeView
from skerry.api.witness import WitnessHandlers
from skerry.core.clock import Clock, SystemClock
from skerry.core.errors import UnavailableError
from skerry.core.log import get
from skerry.core.service import Backoff, beat, cancel_and_wait
from skerry.http import STALE, HttpServer, Request, Response, Route, Stream, with_header

if TYPE_CHECKING:
    from skerry.api.handlers import Handlers

LOOK_AT_TOKENS_S = 1.0
USES_EVERY = 600
"""After so many looks the last uses of tokens are written down."""


class Api:
    """Serves a `NodeView`, or the little that a witness answers, until cancelled.

    `ready` is set when the Unix socket listens, `listening` when the TCP port does too. A port that is taken is tried again with
    back-off and `status` says so: the node works on without it.
    """

    def __init__(
        self,
        view: NodeView | WitnessHandlers,
        config: ApiConfig,
        socket: Path,
        version: str,
        *,
        tokens: TokenStore | None = None,
        audit: Audit | None = None,
        clock: Clock | None = None,
        names: Iterable[str] = (),
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self.ready = asyncio.Event()
        self.listening = asyncio.Event()
        self.status = "starting"
        self.port = 0
        self._config = config
        self._socket = socket
        self._tls = tls
        self._log = get("api")
        clock = clock or SystemClock()
        self._tokens = tokens if tokens is not None else TokenStore(None, clock)
        self._gate = Gate(config, self._tokens, clock, audit or _Logged(), names)
        self._stale: Callable[[], str] = str if isinstance(view, WitnessHandlers) else view.stale
        handlers = view if isinstance(view, WitnessHandlers) else _all_of(view, version, self._tokens)
        endpoints = handlers.endpoints()
        self._routes = [self._guarded(endpoint.route, endpoint.event, endpoint.noted) for endpoint in endpoints]
        self._routes += [self._guarded(route) for route in handlers.inference_routes()]

    @property
    def refused(self) -> Mapping[str, int]:
        """How many requests were refused, by reason."""
        return self._gate.refused

    def warnings(self) -> list[str]:
        """What a person should look at, one sentence each."""
        found = [f"tokens: {self._tokens.trouble}"] if self._tokens.trouble else []
        if not self.port:
            found.append(f"HTTP: {self.status}")
        if self._config.beyond and not self._config.tls:
            found.append(f"HTTP on {self._config.listen} is not encrypted: tokens can be read on the way; set api.tls")
        if self._config.beyond and not len(self._tokens):
            found.append(f"HTTP on {self._config.listen} lets nobody in: make a token with `skerry token create`")
        return found

    @property
    def url(self) -> str:
        """`http://host:port` or `https://host:port`, empty until it listens."""
        return f"{'https' if self._tls else 'http'}://{self.address}" if self.port else ""

    @property
    def address(self) -> str:
        """`host:port` that listens, empty until it does."""
        host, _ = self._config.address
        return (f"[{host}]" if ":" in host else host) + f":{self.port}" if self.port else ""

    async def run(self) -> None:
        """Serve until cancelled; open streams and connections are ended within two seconds.

        Raises `UnavailableError` when the Unix socket cannot be had.
        """
        looking = asyncio.create_task(self._look_at_tokens())
        try:
            async with HttpServer(self._routes) as server:
                await server.listen_unix(self._socket)
                self.ready.set()
                await self._listen(server)
                await asyncio.Event().wait()
        finally:
            await cancel_and_wait(looking)
            self._tokens.flush()
            self.ready.clear()
            self.listening.clear()
            self.port, self.status = 0, "stopped"

    async def _listen(self, server: HttpServer) -> None:
        host, port = self._config.address
        backoff = Backoff(first=0.5, most=10.0)
        while not self.port:
            try:
                self.port = await server.listen_tcp(host, port, self._tls)
            except UnavailableError as error:
                self.status = str(error)
                if not backoff.attempts:
                    self._log.error(f"{error}; trying again")
                await asyncio.sleep(backoff.next())
        self.listening.set()
        self.status = f"listening on {self.url}"
        self._log.info(self.status)

    async def _look_at_tokens(self) -> None:
        looks = 0
        while True:
            await beat(LOOK_AT_TOKENS_S)
            looks += 1
            await asyncio.to_thread(self._tokens.refresh)
            if looks % USES_EVERY == 0:
                await asyncio.to_thread(self._tokens.flush)

    def _guarded(self, route: Route, event: str = "", noted: Noted | None = None) -> Route:
        """The route behind the gate; `event`: what a change by it is called where it is noted; `noted`: what else is."""

        def scope(request: Request) -> Scope | None:
            return scope_of(request.method, request.path if "{rest" in route.pattern else route.pattern)

        async def guarded(request: Request) -> Response | Stream:
            answer = await route.handler(request)
            if isinstance(answer, Stream):
                return self._gate.while_good(request, scope(request), answer)
            if scope(request) not in (None, "infer", "uplink", "ingest"):
                self._gate.note(request, event, answer, noted)
            stale = self._stale() if request.method == "GET" and answer.status < 400 else ""
            return with_header(answer, STALE, stale) if stale else answer

        return msgspec.structs.replace(route, handler=guarded, before=lambda request: self._gate.admit(request, scope(request)))


def _all_of(view: NodeView, version: str, tokens: TokenStore) -> "Handlers":
    from skerry.api.handlers import Handlers  # late: a witness does without, and is to be small

    return Handlers(view, version, tokens=tokens)


class _Logged:
    """In the place of an audit log where there is none: the log."""

    def __init__(self) -> None:
        self._log = get("audit")

    def note(self, event: str, *, by: str = "", address: str = "", reason: str = "", **fields: object) -> None:
        given = {"by": by, "address": address, "reason": reason, **fields}
        self._log.info(event, **{name: value for name, value in given.items() if value})
