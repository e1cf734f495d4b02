"""What the service manager hears of the node: when it is ready, how it is, and that it lives while its pipelines really move."""

import asyncio
from collections.abc import Iterable
from typing import Protocol

from skerry.core.clock import Clock
from skerry.runtime import Notifier
from skerry.worker import Report

EVERY_S = 2.0
STILL_S = 10.0
UNREADY_S = 900.0
_MOVED = tuple[int, int, int]


class Watched(Protocol):
    """What is asked of a node."""

    def ready(self) -> tuple[bool, str]:
        """Whether it does its work, and why not, in one sentence."""
        ...

    def reports(self) -> list[Report]:
        """What its workers said last."""
        ...

    def log_end(self) -> int:
        """The sequence of the last message in the log."""
        ...


class Movement:
    """Whether the pipelines move. Pure, but for the times it is given.

    A pipeline stands still when messages wait for it and it has taken none, closed no window and put out no event for `still_s`
    seconds, whether its worker speaks or not. One that is paused or has failed does not count, nor does a worker that is being
    started again: that is its pool's business.
    """

    def __init__(self, still_s: float = STILL_S) -> None:
        self._still_s = still_s
        self._seen: dict[tuple[int, str], tuple[_MOVED, float]] = {}

    def still(self, reports: Iterable[Report], log_end: int, now: float) -> list[str]:
        """The names of those that stand still at a time in seconds."""
        found, seen = set(), {}
        for index, report in enumerate(reports):
            for name, part in report.pipelines.items():
                moved = (part.cursor, part.windows, part.events)
                before, since = self._seen.get((index, name), (moved, now))
                waits = part.lag > 0 or part.cursor < log_end
                if part.state != "running" or not waits or moved != before:
                    since = now
                seen[index, name] = (moved, since)
                if now - since >= self._still_s:
                    found.add(name)
        self._seen = seen
        return sorted(found)


class Watchdog:
    """Tells the service manager; it starts the node again when it hears nothing for as long as its unit says.

    A node that is not ready works on it, and is given a quarter of an hour: starting it again makes no room on a disk.
    """

    def __init__(self, node: Watched, notifier: Notifier, clock: Clock) -> None:
        self._node = node
        self._notifier = notifier
        self._clock = clock
        self._movement = Movement(min(STILL_S, notifier.watchdog_s / 2) if notifier.watchdog_s else STILL_S)
        self._ready_at = clock.monotonic()
        self._told = False

    async def run(self) -> None:
        """Tell it every two seconds, or thrice as often as it has to be heard, until cancelled."""
        if not self._notifier.wanted:
            return
        every = min(EVERY_S, self._notifier.watchdog_s / 3) if self._notifier.watchdog_s else EVERY_S
        while True:
            self.tell()
            await asyncio.sleep(every)

    def tell(self) -> None:
        """Say how it is now."""
        ready, reason = self._node.ready()
        if ready and not self._told:
            self._told = self._notifier.ready()
        why = self._hung(ready)
        self._notifier.status(why or reason)
        if not why and self._notifier.watchdog_s:
            self._notifier.watchdog()

    def _hung(self, ready: bool) -> str:
        """Why the node is not said to live; empty where it does."""
        now = self._clock.monotonic()
        still = self._movement.still(self._node.reports() if ready else (), self._node.log_end(), now)
        if ready:
            self._ready_at = now
        if now - self._ready_at >= UNREADY_S:
            return f"it has not been ready for {now - self._ready_at:.0f} s"
        return f"pipelines stand still: {', '.join(still)}" if still else ""
