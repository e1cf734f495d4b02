"""POST to any endpoint, and its answer as it came: for centres that are no node."""

from collections.abc import Mapping
from types import TracebackType
from typing import TYPE_CHECKING, Self
from urllib.parse import urlsplit

import msgspec

from skerry.core.errors import ConfigError
from skerry.http.async_client import cause_of
from skerry.http.target import Target, bearer, client_tls

if TYPE_CHECKING:
    import aiohttp

MOST_ANSWER = 256 * 1024
_ALLOWED = "http://host:port/path or https://host:port/path"


class Answer(msgspec.Struct, frozen=True):
    """An answer whatever its status: header names in lower case, the first 256 KiB of the body."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class Poster:
    """Posts to one URL; used as an async context manager. Redirects are not followed: a body must not go elsewhere.

    Args:
        path: where the URL names none. timeout: seconds for a whole answer.
    """

    def __init__(self, url: str, path: str, timeout: float, *, token: str = "", ca: str = "") -> None:
        """Raises `ConfigError` for what is no such URL."""
        try:
            parts = urlsplit(url)
            port = parts.port
        except ValueError as error:
            raise ConfigError(f"{url!r} is not a URL: {error}", allowed=_ALLOWED) from error
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.username is not None or parts.fragment:
            raise ConfigError(f"{url!r} is no endpoint", allowed=_ALLOWED)
        tls = parts.scheme == "https"
        self._target = Target(parts.hostname, port or (443 if tls else 80), tls=tls)
        self._url = self._target.url + (parts.path if parts.path not in ("", "/") else path)
        self._url += f"?{parts.query}" if parts.query else ""
        self._timeout = timeout
        self._bearer = bearer(token)
        self._tls = client_tls(self._target, ca)
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        import aiohttp  # late: it takes a third of a second

        connector = aiohttp.TCPConnector(limit=4, ssl=self._tls or True)
        timeout = aiohttp.ClientTimeout(total=self._timeout, sock_connect=self._timeout / 2)
        self._session = aiohttp.ClientSession(connector=connector, headers=self._bearer, timeout=timeout)
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        await self.close()

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()

    async def post(self, body: bytes, content_type: str, extra: Mapping[str, str] | None = None) -> Answer:
        """The answer; `extra` are further headers. Raises `UnreachableError` where there is none in time."""
        import aiohttp  # late: it takes a third of a second

        assert self._session is not None, "use it as `async with Poster(…)`"
        headers = {"Content-Type": content_type, **(extra or {})}
        try:
            async with self._session.post(self._url, data=body, headers=headers, allow_redirects=False) as answer:
                found = await answer.content.read(MOST_ANSWER)
                while len(found) < MOST_ANSWER and (more := await answer.content.read(MOST_ANSWER - len(found))):
                    found += more
                return Answer(answer.status, {name.lower(): value for name, value in answer.headers.items()}, found)
        except (TimeoutError, aiohttp.ClientError, OSError) as error:
            raise self._target.unreachable(cause_of(error), "the other side", "see whether it runs, and the way to it") from error
