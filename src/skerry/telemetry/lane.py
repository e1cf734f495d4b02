"""One kind of telemetry on its way to the collector: a bounded queue, and a task that sends what is in it."""

import asyncio
import gzip
import re
from collections import deque
from collections.abc import Mapping
from pathlib import Path

from skerry.core.errors import ConfigError, SkerryError
from skerry.core.service import Backoff
from skerry.http import Answer, Poster
from skerry.telemetry.encode import refused_of

MOST_REQUEST = 512 * 1024
MOST_HEADERS = 64 * 1024
LONGEST_WAIT_S = 60.0
_CONTENT_TYPE = "application/x-protobuf"
_AGAIN = frozenset({429, 502, 503, 504})
"""Statuses that are tried again; all others are final (OTLP 1.10, "Retryable Response Codes")."""
_HEADER = re.compile(r"([!#$%&'*+.^_`|~0-9A-Za-z-]+):[ \t]*([\x20-\x7e]*)")


class Lane:
    """A service; `put` never waits.

    Attributes:
        sent, dropped: how many (spans, points) the collector has taken, and how many went without it.
        trouble: why nothing is taken now; empty while all is well.
    """

    def __init__(self, poster: Poster, headers: Mapping[str, str], most: int, *, joined: bool) -> None:
        """`most`: bytes that wait at most. `joined`: requests may be put together into one."""
        self.sent = self.dropped = 0
        self.trouble = ""
        self._poster = poster
        self._headers = {**headers, "Content-Encoding": "gzip"}
        self._most = most
        self._joined = joined
        self._waiting: deque[tuple[bytes, int]] = deque()
        self._bytes = 0
        self._some = asyncio.Event()

    @property
    def waiting(self) -> int:
        """Bytes that wait."""
        return self._bytes

    def put(self, request: bytes, count: int) -> None:
        """Queue a request that holds so many; where there is no room for it the oldest go, and are counted."""
        self._waiting.append((request, count))
        self._bytes += len(request)
        while self._bytes > self._most:
            self.dropped += self._take()[1]
        self._some.set()

    def _take(self) -> tuple[bytes, int]:
        request, count = self._waiting.popleft()
        self._bytes -= len(request)
        return request, count

    async def run(self) -> None:
        """Send until cancelled: what is refused for good is dropped, what cannot be taken now is tried again with back-off."""
        backoff = Backoff(0.5, LONGEST_WAIT_S)
        async with self._poster:
            while True:
                await self._some.wait()
                if not self._waiting:
                    self._some.clear()
                    continue
                request, count = self._next()
                wait = await self._send(request, count)
                if wait is None:
                    backoff.reset()
                    continue
                self._back(request, count)
                await asyncio.sleep(max(wait, backoff.next()))

    def _next(self) -> tuple[bytes, int]:
        request, count = self._take()
        while self._joined and self._waiting and len(request) + len(self._waiting[0][0]) <= MOST_REQUEST:
            more, further = self._take()
            request, count = request + more, count + further
        return request, count

    def _back(self, request: bytes, count: int) -> None:
        """Put what was not taken in front again, where there is room beside what came meanwhile."""
        if self._bytes + len(request) > self._most:
            self.dropped += count
            return
        self._waiting.appendleft((request, count))
        self._bytes += len(request)

    async def _send(self, request: bytes, count: int) -> float | None:
        """Seconds to wait at least before it is tried again; None when it is done with."""
        try:
            answer = await self._poster.post(gzip.compress(request, 1), _CONTENT_TYPE, self._headers)
        except SkerryError as error:
            self.trouble = str(error)
            return 0.0
        if 200 <= answer.status < 300:
            refused, why = refused_of(answer.body)
            self.sent, self.dropped = self.sent + count - refused, self.dropped + refused
            self.trouble = f"the collector refused {refused} of {count}: {why}" if refused else ""
            return None
        self.trouble = f"the collector answers {answer.status}"
        if answer.status in _AGAIN:
            return _wait(answer)
        self.dropped += count
        return None


def _wait(answer: Answer) -> float:
    """Seconds of `Retry-After` (RFC 9110, 10.2.3), a minute at most; a date counts as not said."""
    text = answer.headers.get("retry-after", "")
    return min(float(text), LONGEST_WAIT_S) if text.isdecimal() else 0.0


def read_headers(path: Path | None) -> dict[str, str]:
    """The lines `Name: value` of a file; nothing without one. Raises `ConfigError` for one that cannot be read or holds others."""
    if path is None:
        return {}
    try:
        with path.open("rb") as file:
            text = file.read(MOST_HEADERS).decode()
    except (OSError, UnicodeDecodeError) as error:
        why = getattr(error, "strerror", None) or "it is not text"
        raise ConfigError(f"cannot be read: {why}", where=str(path), mend="name a file that this user may read") from error
    found: dict[str, str] = {}
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip():
            continue
        match = _HEADER.fullmatch(line.strip())
        if match is None:  # what stands there may be a secret: the line is named, not shown
            raise ConfigError("is no header", where=f"{path}:{number}", allowed="Name: value, one a line")
        found[match[1]] = match[2]
    return found
