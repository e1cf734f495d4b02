"""Latency histograms in log-spaced buckets (5 % wide), mergeable, with quantiles; bounded whatever comes."""

import math

import msgspec

_STEP = math.log(1.05)
_LOWEST_MS = 0.01
_MOST = 420
PROMETHEUS_BOUNDS_S = (0.001, 0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 60.0)


class Histogram(msgspec.Struct):
    """Counts of values in milliseconds: bucket i holds up to 0.01 ms x 1.05**i; the last one holds all above (about 2 h)."""

    counts: dict[int, int] = {}
    total: int = 0
    sum_ms: float = 0.0

    def add(self, milliseconds: float) -> None:
        at = 0 if milliseconds <= _LOWEST_MS else min(_MOST, math.ceil(math.log(milliseconds / _LOWEST_MS) / _STEP))
        self.counts[at] = self.counts.get(at, 0) + 1
        self.total += 1
        self.sum_ms += milliseconds

    def merge(self, other: "Histogram") -> None:
        for at, count in other.counts.items():
            self.counts[at] = self.counts.get(at, 0) + count
        self.total += other.total
        self.sum_ms += other.sum_ms

    def quantile(self, part: float) -> float | None:
        """Upper bound of the bucket that holds the quantile, ms; None when nothing was added."""
        if not self.total:
            return None
        rank, seen = math.ceil(part * self.total), 0
        for at in sorted(self.counts):
            seen += self.counts[at]
            if seen >= rank:
                return _LOWEST_MS * math.exp(at * _STEP)
        return None

    def at_most(self, milliseconds: float) -> int:
        """How many values lie in buckets that end at or below the bound."""
        return sum(count for at, count in self.counts.items() if _LOWEST_MS * math.exp(at * _STEP) <= milliseconds * 1.0001)


class RecentHistogram:
    """The values of the last one to two periods, and of all time."""

    def __init__(self, period: float = 30.0) -> None:
        self.all = Histogram()
        self._period = period
        self._now = Histogram()
        self._before = Histogram()
        self._turned = 0.0

    def add(self, milliseconds: float, monotonic: float) -> None:
        if monotonic - self._turned > self._period:
            self._before = self._now if monotonic - self._turned <= 2 * self._period else Histogram()
            self._now = Histogram()
            self._turned = monotonic
        self._now.add(milliseconds)
        self.all.add(milliseconds)

    def recent(self) -> Histogram:
        merged = Histogram()
        merged.merge(self._before)
        merged.merge(self._now)
        return merged
