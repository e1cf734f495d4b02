"""Decides which requests run together: state, request and time in, batches out. No clock, no loop, no engine.

Natural batching: what queued up while the last run was busy is the next batch. A delay is possible and 0 by default, because a
fixed wait costs every lonely request and gains nothing under load, where the queue is never empty.
"""

from collections import deque
from collections.abc import Hashable, Mapping
from typing import Any

import msgspec

from skerry.core.errors import OverloadedError

WITHIN = 0.05  # a batch size is good enough when its rows a second are within this share of the best
_SLOWEST_STEP = 4.0  # one measurement counts as at most so many times the average: a busy core is not a slow model
_WEIGHT = 0.2

_QUEUED, _TAKEN, _CANCELLED = 0, 1, 2


class Ticket:
    """A request that waits for a run.

    Attributes:
        rows: how many rows it brings, 0 or more.
        group: requests of one group may share a run; None runs alone.
        parts: what the runner is given for it, for the shell around this module alone.
        results: what the runner answered, one for each part.
        waiter: whom the shell wakes.
    """

    __slots__ = ("arrived", "group", "parts", "results", "rows", "state", "waiter", "wanted")

    def __init__(self, rows: int, group: Hashable, parts: Any = None, wanted: Any = None) -> None:
        self.rows = rows
        self.group = group
        self.parts = parts
        self.wanted = wanted
        self.results: Any = None
        self.waiter: Any = None
        self.arrived = 0.0
        self.state = _QUEUED


class _Group:
    __slots__ = ("live", "rows", "tickets")

    def __init__(self) -> None:
        self.tickets: deque[Ticket] = deque()  # cancelled ones stay until they come to the front
        self.live = 0
        self.rows = 0


class Batcher:
    """The queue of one model.

    Args:
        max_batch: most rows of a run; a request that has more runs alone.
        max_delay: seconds that a batch which is not full waits for more; counted from its oldest request.
        bound: most requests that wait.
        depth: batches that may be out at once; the second is given only when it is full, so that nothing is lost by deciding early.
    """

    def __init__(self, max_batch: int = 64, max_delay: float = 0.0, bound: int = 4096, depth: int = 1) -> None:
        self.max_batch = max_batch
        self.max_delay = max_delay
        self.bound = bound
        self.depth = depth
        self.waiting = 0
        self.in_flight = 0
        self._order: deque[Ticket] = deque()  # of all groups, by arrival; holds dead tickets until they come to the front
        self._groups: dict[Hashable, _Group] = {}

    def add(self, ticket: Ticket, now: float) -> bool:
        """Queue a request; whether its group has a full batch now, or it runs alone.

        Raises `OverloadedError` when `bound` requests wait already.
        """
        if self.waiting >= self.bound:
            raise OverloadedError(f"{self.waiting} requests wait for this model already", mend="send fewer at once, or try again")
        ticket.arrived = now
        if len(self._order) > 2 * self.waiting + 64:
            self._order = deque(each for each in self._order if each.state == _QUEUED)
        self._order.append(ticket)
        self.waiting += 1
        if ticket.group is None:
            return True
        group = self._groups.get(ticket.group)
        if group is None:
            group = self._groups[ticket.group] = _Group()
        elif len(group.tickets) > 2 * self.waiting + 64:
            group.tickets = deque(each for each in group.tickets if each.state == _QUEUED)
        group.tickets.append(ticket)
        group.live += 1
        group.rows += ticket.rows
        return group.rows >= self.max_batch

    def cancel(self, ticket: Ticket) -> bool:
        """Take a request out of the queue; False when a run has it already."""
        if ticket.state != _QUEUED:
            return False
        ticket.state = _CANCELLED
        self.waiting -= 1
        if ticket.group is not None:
            group = self._groups[ticket.group]
            group.live -= 1
            group.rows -= ticket.rows
            if not group.live:
                del self._groups[ticket.group]
        return True

    def take(self, now: float) -> list[Ticket]:
        """The batch that is to run now, oldest request first; empty when there is none yet. Each needs one `done`."""
        front = self._front()
        if front is None or self.in_flight >= self.depth:
            return []
        full = front.group is None or self._groups[front.group].rows >= self.max_batch
        if not full and (self.in_flight or now < front.arrived + self.max_delay):
            return []
        batch = [front] if front.group is None else self._collect(front.group)
        for ticket in batch:
            ticket.state = _TAKEN
        self.waiting -= len(batch)
        self.in_flight += 1
        return batch

    def done(self) -> None:
        """A batch has been answered."""
        self.in_flight -= 1

    def due(self) -> float | None:
        """When `take` is to be asked again though nothing else happens; None when only an arrival or an end can change it."""
        front = self._front()
        return None if front is None or self.in_flight else front.arrived + self.max_delay

    def _front(self) -> Ticket | None:
        order = self._order
        while order and order[0].state != _QUEUED:
            order.popleft()
        return order[0] if order else None

    def _collect(self, key: Hashable) -> list[Ticket]:
        """The oldest requests of a group that fit in one run; the first always does. A later, smaller one never overtakes."""
        group = self._groups[key]
        batch: list[Ticket] = []
        rows = 0
        while group.tickets:
            ticket = group.tickets[0]
            if ticket.state == _QUEUED:
                if batch and rows + ticket.rows > self.max_batch:
                    break
                batch.append(ticket)
                rows += ticket.rows
            group.tickets.popleft()
        group.live -= len(batch)
        group.rows -= rows
        if not group.live:
            del self._groups[key]
        return batch


class Pace:
    """How long a run of so many rows takes, learned from the runs: a running average for each power of two."""

    __slots__ = ("_seconds",)

    def __init__(self) -> None:
        self._seconds: dict[int, float] = {}

    def observe(self, rows: int, seconds: float) -> None:
        """A run of `rows` rows took `seconds`."""
        at = rows.bit_length()
        known = self._seconds.get(at)
        if known is None:
            self._seconds[at] = seconds
        else:
            self._seconds[at] = known + _WEIGHT * (min(seconds, _SLOWEST_STEP * known) - known)

    def predict(self, rows: int) -> float:
        """Seconds that a run of `rows` rows will take; 0 when nothing is known.

        Between the sizes that were measured time is taken to grow in proportion to rows from the next smaller one, which is at
        least what it takes; below the smallest it is that of the smallest.
        """
        at = rows.bit_length()
        known = self._seconds.get(at)
        if known is not None:
            return known
        smaller = [size for size in list(self._seconds) if size < at]  # another thread may add one
        if smaller:
            near = max(smaller)
            return self._seconds[near] * float(2 ** (at - near))
        return self._seconds[min(self._seconds)] if self._seconds else 0.0


class Measured(msgspec.Struct, frozen=True):
    """A batch size and the seconds that its run took."""

    rows: int
    seconds: float

    @property
    def rate(self) -> float:
        """Rows a second."""
        return self.rows / self.seconds if self.seconds > 0 else float("inf")


def best_batch(measured: Mapping[int, float]) -> int:
    """The smallest batch size whose rows a second are within 5 % of the best. `measured`: seconds of a run by its rows."""
    rates = {rows: Measured(rows, seconds).rate for rows, seconds in measured.items()}
    enough = max(rates.values()) * (1 - WITHIN)
    return min(rows for rows, rate in rates.items() if rate >= enough)


def ranges(rows: int, size: int) -> list[tuple[int, int]]:
    """`rows` rows cut in order into ranges of at most `size`: `[(first, end), …]`."""
    return [(at, min(at + size, rows)) for at in range(0, rows, size)]
