"""`History`: a node's history as numpy arrays, from a program with a loop."""

import asyncio
import threading
from collections.abc import Callable, Sequence
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

import numpy as np

from skerry.core.clock import SECOND, Clock, SystemClock, from_number, from_rfc3339, in_calendar
from skerry.core.errors import ConfigError, RejectedError, UnavailableError
from skerry.core.units import parse_duration, parse_signed_duration
from skerry.historian.sources import Asked, DirectorySource, NodeSource, Points, Source, whole
from skerry.http import Client

T = TypeVar("T")
MOST_SERIES = 64
MOST_SAMPLES = 10_000_000
"""Of one series in one data frame: 160 MB."""
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
        self._alone = threading.Lock()  # a source is asked by one thread at a time

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
        asked = self._asked(start, end, every, agg)
        return await self._ask(lambda source: whole(source, name, asked))

    def to_pandas(
        self,
        names: str | Sequence[str] = (),
        start: Moment = "-1h",
        end: Moment | None = None,
        *,
        every: str | None = None,
        agg: str = "mean",
    ) -> Any:
        """A `pandas.DataFrame` of `[start, end)`: a row a time (UTC), a column a series, NaN where a series has no sample.

        Args:
            names: one series or several; without any all of them, where they are no more than 64.
            every, agg: as of `query`.

        For notebooks: it needs neither `async with` nor `await`, and blocks meanwhile. Raises `RejectedError` without pandas, for
        an unknown series, and over 10,000,000 samples; `UnavailableError`.
        """
        pandas = _pandas()
        with self._alone:
            source = self._source or self._opened()
            try:
                wanted = [names] if isinstance(names, str) else list(names) or _few(source.series())
                asked = self._asked(start, end, every, agg)
                columns = {name: _column(pandas, source, name, asked) for name in dict.fromkeys(wanted)}
            finally:
                if source is not self._source:
                    source.close()
        frame = pandas.DataFrame(columns, index=None if columns else pandas.DatetimeIndex([], tz="UTC"))
        return frame.rename_axis("time")

    def _asked(self, start: Moment, end: Moment | None, every: str | None, agg: str) -> Asked:
        now = self._clock.now()
        width = None if every is None else _checked(parse_duration, every, "every")
        # the moment that is now is part of what is asked
        return Asked(moment(start, now), now + 1 if end is None else moment(end, now), width, agg)

    async def _ask(self, call: Callable[[Source], T]) -> T:
        async with self._turn:
            if self._source is None:
                raise UnavailableError("the history is not open", mend="use it within `async with`")
            return await asyncio.to_thread(self._called, call, self._source)

    def _called(self, call: Callable[[Source], T], source: Source) -> T:
        with self._alone:
            return call(source)


def _pandas() -> Any:
    try:
        import pandas as pd
    except ImportError as error:
        raise RejectedError("a data frame needs pandas", mend="pip install 'skerry[pandas]'") from error
    return pd


def _few(names: list[str]) -> list[str]:
    if len(names) > MOST_SERIES:
        raise RejectedError(f"the history has {len(names):,} series, at once go {MOST_SERIES}", mend="name those that you want")
    return names


def _column(pandas: Any, source: Source, name: str, asked: Asked) -> Any:
    """One series, its times as an index. Of samples with one time there is one, so that columns can be joined."""
    parts, samples = [], 0
    for page in source.pages(name, asked):
        parts.append(page)
        samples += len(page.times)
        if samples > MOST_SAMPLES:
            raise RejectedError(f"{name!r} has over {MOST_SAMPLES:,} samples there", mend='ask for less, or with every="1m"')
    times = np.concatenate([part.times for part in parts])
    values = np.concatenate([part.values for part in parts])
    return pandas.Series(values, pandas.DatetimeIndex(times.view("datetime64[us]"), tz="UTC"))


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
