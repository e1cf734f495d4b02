"""`History`: a node's history as numpy arrays, from a program with a loop."""

import asyncio
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

from skerry.core.clock import SECOND, Clock, SystemClock, from_number, from_rfc3339, in_calendar
from skerry.core.errors import ConfigError, RejectedError, UnavailableError
from skerry.core.units import parse_duration, parse_signed_duration
from skerry.historian.sources import Asked, DirectorySource, NodeSource, Points, Source, whole
from skerry.http import Client

T = TypeVar("T")
Moment = int | float | str | datetime
"""Unix seconds or milliseconds, RFC 3339, a `datetime`, or a duration before (or after) now such as `"-1h"`."""


class History:
    """A history to be read: `async with History("http://box:8080") as history: …`.

    Args:
        where: a node's `http://` or `https://` address, the Unix socket in its data directory, or the directory of a history
            whose node does not run.
        token, ca: as `skerry.http.Client` takes them.
    """

    def __init__(self, where: str | Path, *, token: str = "", ca: str | Path = "", clock: Clock | None = None) -> None:
        self._where = where
        self._token = token
        self._ca = ca
        self._clock = clock or SystemClock()
        self._source: Source | None = None
        self._turn = asyncio.Lock()

    async def __aenter__(self) -> Self:
        async with self._turn:
            self._source = await asyncio.to_thread(self._opened)
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        await self.close()

    def _opened(self) -> Source:
        text = str(self._where)
        if text.startswith(("http://", "https://")) or Path(text).is_socket():
            where = text if "://" in text else Path(text)
            return NodeSource(Client(where, 60.0, token=self._token, ca=self._ca))
        return DirectorySource(Path(text), self._clock)

    async def close(self) -> None:
        """Let go of it. Twice is once."""
        async with self._turn:
            source, self._source = self._source, None
            if source is not None:
                await asyncio.to_thread(source.close)

    async def series(self, prefix: str = "") -> list[str]:
        """Names of all series, in order. Raises `UnavailableError`."""
        return await self._ask(lambda source: source.series(prefix))

    async def query(
        self, name: str, start: Moment = "-1h", end: Moment | None = None, *, every: str | None = None, agg: str = "mean"
    ) -> Points:
        """Times (int64 [N], microseconds since the epoch) and values (float64 [N]) of `[start, end)`; `end` is now by default.

        With `every` (such as `"1m"`) one number for each stretch that has samples: mean, min, max, sum, last, count, or a quantile
        such as p99. A stretch without samples has no row. Raises `RejectedError` for an unknown series, `UnavailableError`.
        """
        now = self._clock.now()
        width = None if every is None else _checked(parse_duration, every, "every")
        # the moment that is now is part of what is asked
        asked = Asked(moment(start, now), now + 1 if end is None else moment(end, now), width, agg)
        return await self._ask(lambda source: whole(source, name, asked))

    async def _ask(self, call: Callable[[Source], T]) -> T:
        async with self._turn:
            if self._source is None:
                raise UnavailableError("the history is not open", mend="use it within `async with`")
            return await asyncio.to_thread(call, self._source)


def moment(given: Moment, now: int) -> int:
    """Microseconds since the epoch, of the years 1 to 9999. Raises `RejectedError`."""
    try:
        return in_calendar(_moment(given, now))
    except OverflowError as error:
        raise RejectedError(f"{given!r} will not do", where="time", mend="a time of the years 1 to 9999") from error


def _moment(given: Moment, now: int) -> int:
    if isinstance(given, datetime):
        return round(given.timestamp() * SECOND)
    if isinstance(given, int | float):
        return _checked(from_number, given, "time")
    if given == "now":
        return now
    if given.startswith(("-", "+")):
        return now + _checked(parse_signed_duration, given, "time")
    try:
        return from_number(float(given))
    except (ValueError, OverflowError):
        return _checked(from_rfc3339, given, "time")


def _checked(parse: Any, given: Any, where: str) -> int:
    try:
        return int(parse(given))
    except (ValueError, OverflowError, ConfigError) as error:
        mend = "RFC 3339, Unix seconds, or a duration such as -1h" if where == "time" else "a duration such as 1m"
        raise RejectedError(f"{given!r} will not do", where=where, mend=mend) from error
