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
        raw_path: as it came, still percent-encoded; empty: it has no escapes.
        params: what the `{name}` parts of the route's pattern matched, decoded.
        query: the first value of each name.
        headers: names in lower case.
        remote: the peer's IP address, or `unix`.
        by: who asks: `unix:<uid>` over the Unix socket; over TCP empty until a guard knows better.
    """

    method: str
    path: str
    params: Mapping[str, str] = {}
    query: Mapping[str, str] = {}
    headers: Mapping[str, str] = {}
    body: bytes = b""
    remote: str = UNIX
    by: str = ""
    raw_path: str = ""


class Response(msgspec.Struct, frozen=True):
    """A whole answer."""

    status: int = 200
    headers: Mapping[str, str] = {}
    body: bytes = b""


STALE = "Skerry-Stale"
"""Header of an answer that may be old: why, in a sentence."""


def with_header(answer: Response, name: str, value: str) -> Response:
    """The answer with one more header."""
    return msgspec.structs.replace(answer, headers={**answer.headers, name: value})


class Stream(msgspec.Struct, frozen=True):
    """An answer that goes on until its chunks end, the peer leaves or the server stops."""

    chunks: AsyncIterator[bytes]
    headers: Mapping[str, str] = {}


Handler = Callable[[Request], Awaitable[Response | Stream]]


class Route(msgspec.Struct, frozen=True):
    """A method and a pattern such as `/api/v1/pipelines/{name}`, and who answers.

    Attributes:
        max_body: bytes of a body; 0: the server's own limit.
        plain_errors: everything refused below the pattern's fixed part is `{"error": sentence}` instead of problem details.
        direct: the pattern is a fixed part and `{rest:.*}`, and its handler needs no `params` and no `query`: a plain request is
            parsed by the server itself, which takes a fifth of the time.
        before: sees each request before its body is read, and gives it on or raises.
    """

    method: str
    pattern: str
    handler: Handler
    max_body: int = 0
    plain_errors: bool = False
    direct: bool = False
    before: Callable[[Request], Request] | None = None

    @property
    def fixed(self) -> str:
        """The pattern up to its first part that is not fixed."""
        return self.pattern.partition("{")[0]


def json_response(value: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """An answer in JSON (NaN and infinity become null)."""
    return Response(status, {"content-type": "application/json", **(headers or {})}, msgspec.json.encode(value))
