"""HTTP: a server shell over plain requests and responses, problem details, server-sent events, and clients for both ends."""

from typing import TYPE_CHECKING

from skerry.core.lazy import lazy
from skerry.http.messages import STALE, UNIX, Handler, Request, Response, Route, Stream, json_response, with_header
from skerry.http.problem import (
    NotFoundError,
    RefusedError,
    TooManyRequestsError,
    UnauthorizedError,
    UnreachableError,
    error_of,
    problem,
    problem_of,
)
from skerry.http.target import Target, client_tls, parse_target

if TYPE_CHECKING:
    from skerry.http.async_client import AsyncClient
    from skerry.http.client import Client
    from skerry.http.limits import Limits
    from skerry.http.poster import Answer, Poster
    from skerry.http.server import HttpServer
    from skerry.http.sse import Message, MessageParser, comment, message

__getattr__ = lazy(
    __name__,
    {
        "Answer": "poster",
        "AsyncClient": "async_client",
        "Client": "client",
        "HttpServer": "server",
        "Limits": "limits",
        "Message": "sse",
        "MessageParser": "sse",
        "Poster": "poster",
        "comment": "sse",
        "message": "sse",
    },
)

__all__ = [
    "STALE", "UNIX", "Answer", "AsyncClient", "Client", "Handler", "HttpServer", "Limits", "Message", "MessageParser",
    "NotFoundError", "Poster", "RefusedError", "Request", "Response", "Route", "Stream", "Target", "TooManyRequestsError",
    "UnauthorizedError", "UnreachableError", "client_tls", "comment", "error_of", "json_response", "message", "parse_target",
    "problem", "problem_of", "with_header",
]  # fmt: skip
