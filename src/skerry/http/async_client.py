"""The same client for asyncio, on aiohttp."""

from collections.abc import AsyncGenerator, Mapping
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

import msgspec

from skerry.http.problem import error_of
from skerry.http.sse import CONTENT_TYPE, Message, MessageParser
from skerry.http.target import bearer, client_tls, parse_target, with_query

if TYPE_CHECKING:
    import aiohttp


class AsyncClient:
    """Asks a node, with up to `connections` requests at a time; used as an async context manager.

    Args and errors are those of `Client`.
    """

    def __init__(
        self, where: Path | str, timeout: float = 10.0, connections: int = 8, *, token: str = "", ca: Path | str = ""
    ) -> None:
        self._target = parse_target(where)
        self._timeout = timeout
        self._bearer = bearer(token)
        self._tls = client_tls(self._target, ca)
        self._connections = connections
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        import aiohttp  # late: it takes a third of a second

        self._session = aiohttp.ClientSession(
            self._target.url,
            connector=(
                aiohttp.UnixConnector(self._target.socket, limit=self._connections)
                if self._target.socket
                else aiohttp.TCPConnector(limit=self._connections, ssl=self._tls or True)
            ),
            headers=self._bearer,
        )
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._session is not None:
            await self._session.close()

    async def get(self, path: str, query: Mapping[str, object] | None = None) -> Any:
        """The JSON answer to GET."""
        return await self._ask("GET", with_query(path, query))

    async def post(self, path: str, body: object = None, *, timeout: float = 0.0) -> Any:
        """The JSON answer to POST; None where there is none. `timeout` in seconds, for what takes longer than the others."""
        return await self._ask("POST", path, body, timeout)

    async def upload(self, path: str, body: bytes, content_type: str, *, timeout: float = 0.0) -> Any:
        """The JSON answer to POST of bytes as they are."""
        return await self._send("POST", path, body, {"Content-Type": content_type}, timeout)

    async def delete(self, path: str) -> Any:
        """The JSON answer to DELETE; None where there is none."""
        return await self._ask("DELETE", path)

    async def stream(
        self, path: str, query: Mapping[str, object] | None = None, *, last_id: str = "", silence: float = 60.0
    ) -> AsyncGenerator[Message, None]:
        """The server-sent events of a path until the node ends them. Raises `UnreachableError` after `silence` seconds."""
        import aiohttp  # late: it takes a third of a second

        headers = {"Accept": CONTENT_TYPE, **({"Last-Event-ID": last_id} if last_id else {})}
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=self._timeout, sock_read=silence)
        parser = MessageParser()
        try:
            async with self._open.get(with_query(path, query), headers=headers, timeout=timeout) as answer:
                await _check(answer)
                while line := await answer.content.readline():
                    found = parser.feed(line.decode(errors="replace").rstrip("\r\n"))
                    if found is not None:
                        yield found
        except (TimeoutError, aiohttp.ClientError, OSError) as error:
            raise self._target.unreachable(cause_of(error)) from error

    @property
    def _open(self) -> "aiohttp.ClientSession":
        assert self._session is not None, "use it as `async with AsyncClient(…)`"
        return self._session

    async def _ask(self, method: str, path: str, body: object = None, timeout: float = 0.0) -> Any:
        sent = None if body is None else msgspec.json.encode(body)
        return await self._send(method, path, sent, {} if sent is None else {"Content-Type": "application/json"}, timeout)

    async def _send(self, method: str, path: str, sent: bytes | None, headers: Mapping[str, str], timeout: float) -> Any:
        import aiohttp  # late: it takes a third of a second

        until = aiohttp.ClientTimeout(total=timeout or self._timeout)
        try:
            async with self._open.request(method, path, data=sent, headers=headers, timeout=until) as answer:
                await _check(answer)
                return self._target.decode(await answer.read())
        except (TimeoutError, aiohttp.ClientError, OSError) as error:
            raise self._target.unreachable(cause_of(error)) from error


def cause_of(error: Exception) -> Exception:
    """What the library wraps: the system's own error says more."""
    inner = getattr(error, "certificate_error", None) or getattr(error, "os_error", None)
    return inner if isinstance(inner, Exception) else error


async def _check(answer: "aiohttp.ClientResponse") -> None:
    if answer.status >= 400:
        raise error_of(answer.status, answer.headers.get("content-type", ""), await answer.read())
