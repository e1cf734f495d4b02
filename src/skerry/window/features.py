"""Named features of windows, computed in numpy over all windows of a batch at once.

Samples of n windows are laid end to end in one `[total, values]` float64 array; `offsets` (int64, `[n + 1]`) says where each
window begins. Every feature is a segment reduction, so a window's numbers do not depend on what else is in the batch.
"""

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


class Segments:
    """Samples of several windows and the moments that several features share, each computed once at most."""

    def __init__(self, values: Floats, offsets: Ints) -> None:
        self.values = values
        self.offsets = offsets
        self.starts = offsets[:-1]
        self.counts = np.diff(offsets)
        self._n = self.counts[:, None].astype(np.float64)
        self._cache: dict[str, Floats] = {}

    def _once(self, name: str, compute: Callable[[], Floats]) -> Floats:
        found = self._cache.get(name)
        if found is None:
            found = self._cache[name] = compute()
        return found

    def sum_of(self, values: Floats) -> Floats:
        """Segment sums, `[n, values]`."""
        return np.add.reduceat(values, self.starts, axis=0)

    @property
    def mean(self) -> Floats:
        return self._once("mean", self._mean)

    def _mean(self) -> Floats:
        """A constant window's mean is its value: rounding must not give it a spread, nor that a shape."""
        return np.where(self.min == self.max, self.min, self.sum_of(self.values) / self._n)

    @property
    def centred(self) -> Floats:
        return self._once("centred", lambda: self.values - np.repeat(self.mean, self.counts, axis=0))

    def moment(self, order: int) -> Floats:
        """Population central moment of the given order, `[n, values]`."""
        return self._once(f"moment{order}", lambda: self.sum_of(self.centred**order) / self._n)

    @property
    def std(self) -> Floats:
        return self._once("std", lambda: np.sqrt(self.moment(2)))

    @property
    def rms(self) -> Floats:
        return self._once("rms", lambda: np.sqrt(self.sum_of(self.values**2) / self._n))

    @property
    def peak(self) -> Floats:
        return self._once("peak", lambda: np.maximum.reduceat(np.abs(self.values), self.starts, axis=0))

    @property
    def min(self) -> Floats:
        return self._once("min", lambda: np.minimum.reduceat(self.values, self.starts, axis=0))

    @property
    def max(self) -> Floats:
        return self._once("max", lambda: np.maximum.reduceat(self.values, self.starts, axis=0))

    def standardised(self, order: int) -> Floats:
        """Central moment over std**order; 0 where the window is constant."""
        return _ratio(self.moment(order), self.std**order)

    def slope(self) -> Floats:
        """Least-squares slope against the sample index, per sample; 0 for one sample."""
        index = np.arange(len(self.values), dtype=np.float64) - np.repeat(self.starts, self.counts)
        index -= np.repeat((self.counts - 1) / 2.0, self.counts)
        across = self.sum_of(index[:, None] * self.centred)
        along = self.sum_of(np.broadcast_to((index**2)[:, None], self.values.shape))
        return _ratio(across, along)

    def median(self) -> Floats:
        bounds = zip(self.offsets[:-1].tolist(), self.offsets[1:].tolist(), strict=True)
        return np.array([np.median(self.values[a:b], axis=0) for a, b in bounds]).reshape(self.mean.shape)

    def crossings(self) -> Floats:
        """How often the signal crosses its window's mean."""
        above = self.centred > 0
        change = np.zeros(self.values.shape)
        change[1:] = above[1:] != above[:-1]
        change[self.starts] = 0.0
        return self.sum_of(change)


def _ratio(over: Floats, under: Floats) -> Floats:
    return np.divide(over, under, out=np.zeros_like(over), where=under > 0)


FEATURES: dict[str, Callable[[Segments], Floats]] = {
    "mean": lambda s: s.mean,
    "std": lambda s: s.std,
    "min": lambda s: s.min,
    "max": lambda s: s.max,
    "range": lambda s: s.max - s.min,
    "rms": lambda s: s.rms,
    "peak": lambda s: s.peak,
    "crest": lambda s: _ratio(s.peak, s.rms),
    "skew": lambda s: s.standardised(3),
    "kurtosis": lambda s: s.standardised(4),
    "median": lambda s: s.median(),
    "first": lambda s: s.values[s.starts],
    "last": lambda s: s.values[s.offsets[1:] - 1],
    "sum": lambda s: s.sum_of(s.values),
    "slope": lambda s: s.slope(),
    "crossings": lambda s: s.crossings(),
    "count": lambda s: np.broadcast_to(s.counts[:, None].astype(np.float64), s.mean.shape),
}


def compute(names: Sequence[str], values: Floats, offsets: Ints) -> Floats:
    """Features of n windows.

    Args:
        names: keys of `FEATURES`. std is the population's, kurtosis Pearson's, peak = max |x|, crest = peak / rms.
        values: `[total, values]` float64, the samples of all windows end to end.
        offsets: `[n + 1]` int64, `offsets[i]:offsets[i+1]` are the samples of window i; no window is empty.

    Returns:
        `[n, values x names]` float64, value-major (see `column_names`).
    """
    segments = Segments(values, offsets)
    columns = np.empty((len(offsets) - 1, values.shape[1], len(names)))
    for position, name in enumerate(names):
        columns[:, :, position] = FEATURES[name](segments)
    return columns.reshape(len(offsets) - 1, -1)
