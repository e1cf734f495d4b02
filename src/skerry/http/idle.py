"""Connections of the library on which nobody asks anything: they are closed, as the library itself waits for a head without end."""

import asyncio
from collections.abc import Callable, Iterable
from typing import Protocol, TypeVar

C = TypeVar("C")


class Connection(Protocol):
    """A connection of the library."""

    def force_close(self) -> None: ...


class Idle:
    """Which connections nobody uses: who is asked tells when that begins and when it ends.

    Args:
        most: seconds without a request. Bytes that are no whole head are none.
    """

    def __init__(self, most: float) -> None:
        self._most = most
        self._at_work: dict[int, int] = {}
        self._since: dict[object, float] = {}  # by the connection itself: the address of one that went may be another's

    @property
    def every(self) -> float:
        """Seconds between two looks."""
        return min(5.0, self._most / 4)

    def begin(self, connection: object) -> None:
        """A request has come."""
        self._at_work[id(connection)] = self._at_work.get(id(connection), 0) + 1

    def end(self, connection: object) -> None:
        """It is answered."""
        left = self._at_work.pop(id(connection)) - 1
        if left:
            self._at_work[id(connection)] = left
        self._since.pop(connection, None)

    async def close(self, connections: Callable[[], Iterable[Connection]]) -> None:
        """Close those, until cancelled."""
        while True:
            await asyncio.sleep(self.every)
            for each in self.look(connections(), asyncio.get_running_loop().time()):
                each.force_close()

    def look(self, connections: Iterable[C], now: float) -> list[C]:
        """Those that have had no request for too long. `now`: monotonic seconds."""
        since = self._since
        self._since = {}
        found = []
        for each in connections:
            if id(each) in self._at_work:
                continue
            began = self._since[each] = since.get(each, now)
            if now - began >= self._most:
                found.append(each)
        return found
