"""Raw samples around an alarm: the last ones are kept for a while, and leave when an alarm of their device says so. Pure.

An alarm is known some time after the samples that it is about (its window has to close, its rule may want several); so they are
kept `HOLD` longer than `before`.
"""

from collections import deque
from collections.abc import Iterator

import msgspec

from skerry.core.clock import SECOND
from skerry.uplink.sieve import Row, size_of

HOLD = 60 * SECOND
MOST_ALARMS = 10_000


class Kept(msgspec.Struct, array_like=True, gc=False):
    """A row that may still leave: its device, what it cost, and when it came in."""

    key: str
    row: Row
    cost: int
    arrival: int


class AroundState(msgspec.Struct):
    """Rows in the order in which they came, and by device the stretch of time whose rows leave."""

    kept: list[Kept] = []
    open: dict[str, tuple[int, int]] = {}


class Ring:
    """The last rows of one pipeline.

    Args:
        before, after: microseconds.
        room: bytes that it may take; with more the oldest go early, which `early` counts.
    """

    def __init__(self, before: int, after: int, room: int = 1 << 62) -> None:
        self.early = 0
        self._room = room
        self._taken = 0
        self._before = before
        self._after = after
        self._kept: deque[Kept] = deque()
        self._open: dict[str, tuple[int, int]] = {}

    def wants(self, key: str, time: float) -> bool:
        """Whether a row lies near an alarm that is known already."""
        stretch = self._open.get(key)
        return stretch is not None and stretch[0] <= time <= stretch[1]

    def keep(self, kept: Kept) -> Iterator[Kept]:
        """Keep a row; yields the oldest while there is no room."""
        self._kept.append(kept)
        self._taken += _size(kept)
        while self._taken > self._room and self._kept:
            self.early += 1
            yield self._oldest()

    def alarm(self, key: str, start: int, end: int) -> list[Kept]:
        """An alarm began: the rows around it that are here."""
        first, last = start - self._before, end + self._after
        before = self._open.pop(key, None)
        if before is not None and before[1] >= first:
            first = min(first, before[0])
            last = max(last, before[1])
        if len(self._open) >= MOST_ALARMS:
            del self._open[next(iter(self._open))]
        self._open[key] = (first, last)
        found = [kept for kept in self._kept if kept.key == key and first <= kept.row[0] <= last]
        if found:
            self._taken -= sum(map(_size, found))
            self._kept = deque(kept for kept in self._kept if not (kept.key == key and first <= kept.row[0] <= last))
        return found

    def expired(self, now: int) -> Iterator[Kept]:
        """Rows that no alarm has wanted; stretches that are long over are forgotten."""
        while self._kept and self._kept[0].arrival < now - self._before - HOLD:
            yield self._oldest()
        over = [key for key, (_, last) in self._open.items() if last < now - self._before - HOLD]
        for key in over:
            del self._open[key]

    def _oldest(self) -> Kept:
        found = self._kept.popleft()
        self._taken -= _size(found)
        return found

    @property
    def cost(self) -> int:
        """Bytes of what is kept."""
        return sum(kept.cost for kept in self._kept)

    @property
    def state(self) -> AroundState:
        """What a checkpoint keeps."""
        return AroundState(list(self._kept), dict(self._open))

    @state.setter
    def state(self, state: AroundState) -> None:
        self._kept = deque(state.kept)
        self._taken = sum(map(_size, self._kept))
        self._open = dict(state.open)


def _size(kept: Kept) -> int:
    return size_of(kept.key, len(kept.row) + 2)
