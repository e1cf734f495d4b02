"""What a connection is told that is one too many: 503 with a body for every kind of client, without looking at its request."""

import asyncio
from typing import cast

import msgspec

from skerry.core.errors import OverloadedError
from skerry.http.problem import problem_of

MOST = 64  # that are given time to read; further ones are closed at once
LINGER_S = 1.0
_ERROR = OverloadedError("the node has no room for another connection", mend="use those that you have, or try again in a moment")


def _answer() -> bytes:
    given = problem_of(_ERROR)
    # clients of the Open Inference Protocol read `error`; problem details may have members of their own (RFC 9457, 3.2)
    body = msgspec.json.encode({**msgspec.json.decode(given.body), "error": str(_ERROR)})
    lines = ["HTTP/1.1 503 Service Unavailable", f"content-length: {len(body)}", "connection: close"]
    lines += [f"{name}: {value}" for name, value in given.headers.items()]
    return "\r\n".join([*lines, "", ""]).encode() + body


_ANSWER = _answer()


class Busy(asyncio.Protocol):
    """Answers a connection and closes it.

    What the peer says is read and thrown away for a moment: closing over unread bytes is a reset, which may overtake the answer.

    Args:
        told: all of these that are open.
    """

    def __init__(self, told: "set[Busy]") -> None:
        self._told = told
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # a cast, since the transports of uvloop are no subclass
        accepted = self._transport = cast(asyncio.Transport, transport)
        accepted.write(_ANSWER)
        if len(self._told) >= MOST:
            accepted.close()
            return
        self._told.add(self)
        if accepted.can_write_eof():
            accepted.write_eof()
        asyncio.get_running_loop().call_later(LINGER_S, accepted.close)

    def connection_lost(self, error: Exception | None) -> None:
        self._told.discard(self)

    def abort(self) -> None:
        """Close now."""
        if self._transport is not None:
            self._transport.abort()
