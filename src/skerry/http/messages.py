"""What a handler takes and gives: plain structs, so that handlers know nothing of the library below."""

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import Any

import msgspec

UNIX = "unix"
"""The `remote` of a request that came over the Unix socket."""


class Request(msgspec.Struct, frozen=True):
    """One request whose body has been read.

    Attributes:
        path: decoded, without the query.
        params: what the `{name}` parts of the route's pattern matched, decoded.
        query: the first value of each name.
        headers: names in lower case.
        remote: the peer's IP address, or `unix`.
    """

    method: str
    path: str
    params: Mapping[str, str] = {}
    query: Mapping[str, str] = {}
    headers: Mapping[str, str] = {}
    body: bytes = b""
    remote: str = UNIX


class Response(msgspec.Struct, frozen=True):
    """A whole answer."""

    status: int = 200
    headers: Mapping[str, str] = {}
    body: bytes = b""


class Stream(msgspec.Struct, frozen=True):
    """An answer that goes on until its chunks end, the peer leaves or the server stops."""

    chunks: AsyncIterator[bytes]
    headers: Mapping[str, str] = {}


Handler = Callable[[Request], Awaitable[Response | Stream]]


class Route(msgspec.Struct, frozen=True):
    """A method and a pattern such as `/api/v1/pipelines/{name}`, and who answers."""

    method: str
    pattern: str
    handler: Handler


def json_response(value: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """An answer in JSON (NaN and infinity become null)."""
    return Response(status, {"content-type": "application/json", **(headers or {})}, msgspec.json.encode(value))
