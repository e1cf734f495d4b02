"""Roll-ups as they grow: of each device and stretch of time the count, minimum, maximum, sum and last value of each value. Pure.

A stretch closes when it is over, has been open for a while, and no sample in order can come any more. What comes later opens it
anew: its rows are to be added to those that were sent.
"""

import math
from collections.abc import Sequence

import msgspec

from skerry.core.clock import SECOND
from skerry.uplink.sieve import Row, size_of
from skerry.uplink.table import AGGREGATES, Rows

GRACE = 10 * SECOND
_EACH = 7  # count, minimum, maximum, sum, its error, last, its time


class Stretch(msgspec.Struct):
    """One stretch: since when (by the log) it grows, and seven numbers a value for each device."""

    opened: int
    rows: dict[str, list[float]] = {}


class Stretches:
    """The open stretches of one width (microseconds), by their start.

    Args:
        room: bytes that they may take; with more the oldest closes early, which `early` counts.
    """

    def __init__(self, width: int, lateness: int, room: int = 1 << 62) -> None:
        self.width = width
        self.early = 0
        self._grace = GRACE + lateness
        self._room = room
        self.state: dict[int, Stretch] = {}
        self._taken = 0

    def restore(self, state: dict[int, Stretch]) -> None:
        """Go on with what a checkpoint kept."""
        self.state = state
        self._taken = sum(size_of(key, len(row)) for stretch in state.values() for key, row in stretch.rows.items())

    def add(self, key: str, row: Row, now: int) -> None:
        """Take one sample in."""
        time = row[0]
        start = int(time) // self.width * self.width
        stretch = self.state.get(start)
        if stretch is None:
            stretch = self.state[start] = Stretch(now, {})
        found = stretch.rows.get(key)
        if found is None:
            found = stretch.rows[key] = [0.0, math.inf, -math.inf, 0.0, 0.0, 0.0, -math.inf] * (len(row) - 1)
            self._taken += size_of(key, len(found))
        at = 0
        for value in row[1:]:
            if not math.isnan(value):
                _add(found, at, value, time)
            at += _EACH

    def due(self, now: int) -> list[Rows]:
        """The stretches that close, one row for each device."""
        found = []
        for start in sorted(self.state):
            stretch = self.state[start]
            over = start + self.width + self._grace <= now and stretch.opened + self._grace <= now
            if over or self._taken > self._room:
                self.early += not over
                found.append(self._close(start))
        return found

    def close(self) -> list[Rows]:
        """All of them."""
        return [self._close(start) for start in sorted(self.state)]

    def _close(self, start: int) -> Rows:
        rows: Rows = {}
        for key, found in self.state.pop(start).rows.items():
            self._taken -= size_of(key, len(found))
            row = [float(start)]
            for at in range(0, len(found), _EACH):
                count, least, most, total, error, last, _ = found[at : at + _EACH]
                whole = total + error if math.isfinite(error) else total
                row += [count, least, most, whole, last] if count else [0.0, math.nan, math.nan, 0.0, math.nan]
            rows[key] = [tuple(row)]
        return rows


def added(before: Sequence[float], row: Sequence[float]) -> list[float]:
    """The columns of two roll-ups of one stretch, or of two that follow each other, as one."""
    both: list[float] = []
    for at in range(0, len(row), len(AGGREGATES)):
        one, other = before[at : at + len(AGGREGATES)], row[at : at + len(AGGREGATES)]
        if not one[0] or not other[0]:
            both += one if one[0] else other
        else:
            both += [one[0] + other[0], min(one[1], other[1]), max(one[2], other[2]), one[3] + other[3], other[4]]
    return both


def _add(found: list[float], at: int, value: float, time: float) -> None:
    found[at] += 1
    found[at + 1] = min(found[at + 1], value)
    found[at + 2] = max(found[at + 2], value)
    # the error of each addition is summed beside (Neumaier 1974): sums of decimals stay decimals, which pack well
    total = found[at + 3]
    summed = total + value
    found[at + 4] += (total - summed) + value if abs(total) >= abs(value) else (value - summed) + total
    found[at + 3] = summed
    if time >= found[at + 6]:
        found[at + 5], found[at + 6] = value, time
