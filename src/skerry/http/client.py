"""A blocking client for the command line: JSON and server-sent events over a Unix socket, http or https.

On the standard library, so that a command starts in a tenth of a second.
"""

import http.client
import socket
import ssl
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import msgspec

from skerry.http.messages import STALE
from skerry.http.problem import error_of
from skerry.http.sse import CONTENT_TYPE, Message, MessageParser
from skerry.http.target import Target, bearer, client_tls, parse_target, with_query


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: str, timeout: float) -> None:
        super().__init__("localhost", timeout=timeout)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


class Client:
    """Asks a node; one request at a time.

    Args:
        where: the path of its Unix socket, or `http://host:port` or `https://host:port`.
        timeout: seconds that one answer, or one piece of it, may take.
        token: what the node knows the caller by, where it asks for that.
        told: called with what an answer says of itself where it may be old, once for each such sentence.
        ca: a file (PEM) with the CAs that the node's certificate may be from, instead of those that this machine trusts.

    Every call raises `UnreachableError` when nobody answers, and for an answer of 400 or more the error that it tells.
    """

    def __init__(
        self,
        where: Path | str,
        timeout: float = 10.0,
        *,
        token: str = "",
        ca: Path | str = "",
        told: Callable[[str], None] = lambda stale: None,
    ) -> None:
        self._target: Target = parse_target(where)
        self._timeout = timeout
        self._bearer = bearer(token)
        self._tls = client_tls(self._target, ca)
        self._connection: http.client.HTTPConnection | None = None
        self._told, self._stale = told, ""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Give the connection back."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def get(self, path: str, query: Mapping[str, object] | None = None) -> Any:
        """The JSON answer to GET."""
        return self._ask("GET", path, query, None)

    def post(self, path: str, body: object = None) -> Any:
        """The JSON answer to POST; None where there is none."""
        return self._ask("POST", path, None, body)

    def upload(self, path: str, body: bytes, content_type: str) -> Any:
        """The JSON answer to POST of bytes as they are."""
        return self._answer("POST", path, {"Content-Type": content_type}, body)

    def delete(self, path: str) -> Any:
        """The JSON answer to DELETE; None where there is none."""
        return self._ask("DELETE", path, None, None)

    def stream(
        self, path: str, query: Mapping[str, object] | None = None, *, last_id: str = "", silence: float = 60.0
    ) -> Iterator[Message]:
        """The server-sent events of a path until the node ends them. Raises `UnreachableError` after `silence` seconds."""
        headers = {"Accept": CONTENT_TYPE, **({"Last-Event-ID": last_id} if last_id else {})}
        answer = self._send("GET", with_query(path, query), headers, None, silence)
        parser = MessageParser()
        try:
            while line := answer.readline():
                found = parser.feed(line.decode(errors="replace").rstrip("\r\n"))
                if found is not None:
                    yield found
        except (OSError, http.client.HTTPException) as error:
            raise self._target.unreachable(error) from error
        finally:
            answer.close()
            self.close()

    def _ask(self, method: str, path: str, query: Mapping[str, object] | None, body: object) -> Any:
        sent = None if body is None else msgspec.json.encode(body)
        headers = {} if sent is None else {"Content-Type": "application/json"}
        return self._answer(method, with_query(path, query), headers, sent)

    def _answer(self, method: str, path: str, headers: Mapping[str, str], sent: bytes | None) -> Any:
        with self._send(method, path, headers, sent, self._timeout) as answer:
            try:
                return self._target.decode(answer.read())
            except (OSError, http.client.HTTPException) as error:
                raise self._target.unreachable(error) from error
            finally:
                self.close()

    def _send(
        self, method: str, path: str, headers: Mapping[str, str], body: bytes | None, timeout: float
    ) -> http.client.HTTPResponse:
        self.close()
        target = self._target
        connection = _connection(target, timeout, self._tls)
        self._connection = connection
        try:
            connection.request(method, path, body, {**headers, **self._bearer})
            answer = connection.getresponse()
            content = answer.read() if answer.status >= 400 else b""
        except (OSError, http.client.HTTPException) as error:
            self.close()
            raise target.unreachable(error) from error
        if answer.status >= 400:
            self.close()
            raise error_of(answer.status, answer.headers.get("content-type", ""), content)
        stale = answer.headers.get(STALE, "")
        if stale and stale != self._stale:
            self._told(stale)
        self._stale = stale
        return answer


def _connection(target: Target, timeout: float, tls: ssl.SSLContext | None) -> http.client.HTTPConnection:
    if target.socket:
        return _UnixConnection(target.socket, timeout)
    if tls is not None:
        return http.client.HTTPSConnection(target.host, target.port, timeout=timeout, context=tls)
    return http.client.HTTPConnection(target.host, target.port, timeout=timeout)
