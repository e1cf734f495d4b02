"""Which raw samples are worth sending: every n-th of a device, and of those the ones whose values moved. Pure."""

import math
import struct
from collections.abc import Sequence
from typing import TypeVar

import msgspec

from skerry.pipeline import Band, ForwardSpec

T = TypeVar("T")
Row = tuple[float, ...]
"""Microseconds, then the values."""


class SieveState(msgspec.Struct):
    """By device: how many came since one was let through, and the one that was sent last."""

    turns: dict[str, int] = {}
    last: dict[str, Row] = {}


class Sieve:
    """The dead-band and decimation of one pipeline.

    Args:
        names: of the values that leave.
        room: bytes that it may take; with more it forgets the device that it has known longest, which `forgotten` counts.
    """

    def __init__(self, spec: ForwardSpec, names: Sequence[str], room: int = 1 << 62) -> None:
        self.forgotten = 0
        self._room = room
        self._taken = 0
        found = spec.bands(tuple(names))
        self._bands = None if found is None else list(found.values())
        self._every = spec.decimate
        self._rule = "on_change" if spec.on_change else "deadband"
        self._state = SieveState()

    @property
    def state(self) -> SieveState:
        """What a checkpoint keeps."""
        return self._state

    @state.setter
    def state(self, state: SieveState) -> None:
        self._state = state
        self._taken = sum(size_of(key, 1) for key in state.turns) + sum(size_of(key, len(row)) for key, row in state.last.items())

    def holds_back(self, key: str, row: Row) -> str:
        """The rule that keeps a row from being sent, or an empty text."""
        if self._every > 1:
            turn = self._state.turns.get(key, 0)
            self._remember(self._state.turns, key, (turn + 1) % self._every, 1)
            if turn:
                return "decimate"
        if self._bands is not None:
            last = self._state.last.get(key)
            if last is not None and not any(map(_moved, self._bands, row[1:], last[1:])):
                return self._rule
            self._remember(self._state.last, key, row, len(row))
        return ""

    def _remember(self, kept: dict[str, T], key: str, value: T, numbers: int) -> None:
        if key not in kept:
            self._taken += size_of(key, numbers)
            if self._taken > self._room and kept:
                oldest = next(iter(kept))
                del kept[oldest]
                self._taken -= size_of(oldest, numbers)
                self.forgotten += 1
        kept[key] = value


def _moved(band: Band, value: float, last: float) -> bool:
    if not (math.isfinite(value) and math.isfinite(last)):
        return struct.pack("<d", value) != struct.pack("<d", last)
    if band.width == band.share == 0:
        return value != last
    return abs(value - last) > max(band.width, band.share * abs(last))


def size_of(key: str, numbers: int) -> int:
    """Bytes of a device and its numbers in a checkpoint, at most."""
    return 5 + len(key.encode()) + 5 + 9 * numbers
