"""Samples that are rolled up and not kept: of the hours that are being written, which those are, and what the disk knows of them.

What a roll-up is made of is in memory for as long as its hour is. Where that is gone (a restart), the disk's rows of minutes with
more samples than can be found again stay as they are: the same samples given again change nothing.
"""

import numpy as np
from numpy.typing import NDArray

from skerry.store.columns import Floats, Ints
from skerry.store.rollup import Rollup, decode, in_order, joined, part

At = tuple[str, int]
"""Series and hour."""
Part = tuple[Ints, Floats, bool]
"""Times, values, and whether the samples are kept as they are."""


class Thin:
    """For one archive. `forget` an hour when its samples leave memory."""

    def __init__(self) -> None:
        self._times: dict[At, Ints] = {}
        self._floor: dict[At, Rollup] = {}

    def take_up(self, at: At, minutes: bytes | None, kept: Ints) -> None:
        """An hour is read from the disk: its rows of minutes, and the times of the samples that are kept."""
        if minutes is None:
            return
        rows = decode(minutes)
        if int(rows.samples.sum()) > len(kept):
            self._floor[at] = rows

    def add(self, at: At, parts: list[Part], known: Ints) -> None:
        """Note samples that are not to be kept, unless they are already."""
        found = [np.setdiff1d(times, known) for times, _, kept in parts if not kept]
        if found or at in self._times:
            thin = np.unique(np.concatenate([*found, self._times.get(at, known[:0])]))
            # what is given once to be kept is kept
            self._times[at] = np.setdiff1d(thin, np.concatenate([known[:0], *(times for times, _, kept in parts if kept)]))

    def kept(self, at: At, times: Ints) -> NDArray[np.bool_] | None:
        """Which of an hour's samples are kept; None: all."""
        thin = self._times.get(at)
        return None if thin is None or not len(thin) else ~np.isin(times, thin)

    def rolled(self, at: At, rows: Rollup) -> Rollup:
        """An hour's rows of minutes: of each the one that was made of more samples."""
        floor = self._floor.get(at)
        if floor is None:
            return rows
        counts = dict(zip(rows.starts.tolist(), rows.samples.tolist(), strict=True))
        held = zip(floor.starts.tolist(), floor.samples.tolist(), strict=True)
        more = [start for start, samples in held if samples > counts.get(start, 0)]
        mine = [part(rows, row) for row in np.flatnonzero(~np.isin(rows.starts, more)).tolist()]
        old = [part(floor, row) for row in np.flatnonzero(np.isin(floor.starts, more)).tolist()]
        return in_order(joined([*mine, *old]))

    def forget(self, at: At) -> None:
        """What was noted of an hour."""
        self._times.pop(at, None)
        self._floor.pop(at, None)
