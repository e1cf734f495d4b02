"""Time: the only module that reads the clock. Times are int microseconds since the Unix epoch, UTC.

`SKERRY_CLOCK_OFFSET` (a duration such as `-1h`) shifts the wall clock of this process and of its children: a wrong clock, for
tests and drills. The monotonic clock is never shifted.
"""

import os
import time
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from pathlib import Path
from typing import Protocol

from skerry.core.errors import ConfigError
from skerry.core.units import parse_signed_duration

SECOND = 1_000_000
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class Clock(Protocol):
    """Where time comes from."""

    def now(self) -> int:
        """Wall clock, microseconds since the epoch."""
        ...

    def monotonic(self) -> float:
        """Seconds that only ever grow."""
        ...


class SystemClock:
    """The machine's clock, shifted by `SKERRY_CLOCK_OFFSET` or by what the file `SKERRY_CLOCK_FILE` holds."""

    def __init__(self) -> None:
        self._offset = parse_signed_duration(os.environ.get("SKERRY_CLOCK_OFFSET", "0s"))
        self._file = os.environ.get("SKERRY_CLOCK_FILE", "")
        self._looked = 0.0

    def now(self) -> int:
        if self._file:
            self._look()
        return time.time_ns() // 1000 + self._offset

    def monotonic(self) -> float:
        return time.monotonic()

    def _look(self) -> None:
        now = time.monotonic()
        if now - self._looked < 0.2:
            return
        self._looked = now
        try:
            with Path(self._file).open(encoding="ascii") as file:
                self._offset = parse_signed_duration(file.read().strip() or "0s")
        except (OSError, ConfigError):
            return


class ManualClock:
    """A clock that moves when told to; for tests and for replays."""

    def __init__(self, now: int = 0) -> None:
        self._now = now
        self._monotonic = 0.0

    def now(self) -> int:
        return self._now

    def monotonic(self) -> float:
        return self._monotonic

    def advance(self, microseconds: int) -> None:
        self._now += microseconds
        self._monotonic += microseconds / SECOND

    def set(self, now: int) -> None:
        """Set the wall clock, as a person or NTP would; monotonic time does not move."""
        self._now = now


class SteadyClock:
    """A wall clock that does not believe jumps: what deletes by age must not lose a year's data to a clock that somebody set.

    A step of more than an hour, in either direction, counts only after it has held for a day of running; until then time goes on
    from what was believed before.

    Args:
        seen: the time that was believed last, by a process before this one; None: there was none.
    """

    MOST_STEP, HOLDS_S = 3600 * SECOND, 86_400.0

    def __init__(self, clock: Clock, seen: int | None = None) -> None:
        self._clock = clock
        self._at = (clock.now() if seen is None else seen, clock.monotonic())
        self._since: float | None = None

    @property
    def doubts(self) -> bool:
        """Whether the clock says something that is not believed now."""
        self.now()
        return self._since is not None

    def now(self) -> int:
        """Wall clock as it is believed, microseconds since the epoch."""
        wall, monotonic = self._clock.now(), self._clock.monotonic()
        expected = self._at[0] + round((monotonic - self._at[1]) * SECOND)
        if abs(wall - expected) <= self.MOST_STEP:
            self._since = None
        else:
            self._since = monotonic if self._since is None else self._since
            if monotonic - self._since < self.HOLDS_S:
                return expected
            self._since = None
        self._at = (wall, monotonic)
        return wall

    def monotonic(self) -> float:
        """Seconds that only ever grow."""
        return self._clock.monotonic()


def to_rfc3339(microseconds: int) -> str:
    """`2026-11-24T18:00:00.123Z`: UTC with milliseconds, rounded down."""
    seconds, rest = divmod(microseconds, SECOND)
    return f"{_second(seconds)}.{rest // 1000:03d}Z"


@lru_cache(maxsize=256)
def _second(seconds: int) -> str:
    return (_EPOCH + timedelta(seconds=seconds)).strftime("%Y-%m-%dT%H:%M:%S")


def from_rfc3339(text: str) -> int:
    """Microseconds of an RFC 3339 time; without an offset it is taken as UTC. Raises ValueError."""
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return (moment - _EPOCH) // timedelta(microseconds=1)


def in_calendar(moment: int) -> int:
    """The time itself, in microseconds, where it can be written as a date. Raises OverflowError outside the years 1 to 9999."""
    if not -62_135_596_800 * SECOND <= moment < 253_402_300_800 * SECOND:
        raise OverflowError(f"{moment} is outside the years 1 to 9999")
    return moment


def from_number(value: float) -> int:
    """Microseconds of Unix seconds, or of milliseconds where the number is 1e11 or more. Raises ValueError, OverflowError."""
    return round(value * 1000) if abs(value) >= 1e11 else round(value * SECOND)
