"""When a child is started again: with back-off and jitter, at most so often in a window, then from quarantine."""

from skerry.core.clock import Clock
from skerry.core.service import Backoff, Restarts
from skerry.runtime.children import Exit


class Lives:
    """The lives of one child, one after the other: when the next may begin, and how the last one ended.

    Each waits for longer than the one before, with jitter, until one has lasted `steady_s`. A child that ends `limit` times within
    `window_s` by a fault of its own is quarantined: the next life begins `quarantine_s` later, and so on each time.

    Attributes:
        total: ends so far.
        quarantined: the next life begins late.
        last: how the last one ended; None where it could not begin, or none has.
    """

    def __init__(
        self, clock: Clock, limit: int = 10, window_s: float = 600.0, quarantine_s: float = 300.0, steady_s: float = 30.0
    ) -> None:
        self.total = 0
        self.quarantined = False
        self.last: Exit | None = None
        self._clock = clock
        self._bounds = limit, window_s
        self._quarantine_s = quarantine_s
        self._steady_s = steady_s
        self._backoff = Backoff(0.05, 10.0)
        self._ends = Restarts(clock, limit, window_s)
        self._began = clock.monotonic()

    def begin(self) -> None:
        """One begins."""
        self.quarantined = False
        self._began = self._clock.monotonic()

    def end(self, last: Exit | None, own_fault: bool) -> float:
        """One has ended; answers the seconds until the next."""
        self.total += 1
        self.last = last
        if self._clock.monotonic() - self._began > self._steady_s:
            self._backoff.reset()
        if own_fault:
            self._ends.note()
            self.quarantined = self._ends.exhausted
        return self._quarantine_s if self.quarantined else self._backoff.next()

    def forgive(self) -> None:
        """What ended it has been found, and will not again."""
        self._backoff.reset()
        self._ends = Restarts(self._clock, *self._bounds)

    def sentence(self, name: str, words: str) -> str:
        """`worker 0 was restarted 3 times: …`, or that it is quarantined."""
        if not self.quarantined:
            return f"{name} was restarted {self.total} times: {words}"
        limit, window_s = self._bounds
        return (
            f"{name} is quarantined for {self._quarantine_s / 60:g} minutes, since it ended {limit} times within "
            f"{window_s / 60:g}: {words}"
        )
