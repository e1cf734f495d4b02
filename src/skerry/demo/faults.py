"""Which pump has which fault when: the truth about the simulated station. Pure; times are Unix microseconds."""

from bisect import bisect_right
from collections.abc import Sequence
from functools import lru_cache
from random import Random
from typing import Literal, Protocol

import msgspec

Fault = Literal["valve", "imbalance", "leak"]
NORMAL = "normal"
FAULTS: tuple[Fault, ...] = ("valve", "imbalance", "leak")
LABELS: tuple[str, ...] = (NORMAL, *FAULTS)
_SECOND = 1_000_000
_LONGEST = 7.0
_JITTER = 0.5


class Episode(msgspec.Struct, frozen=True):
    """One fault of one device from `start_us` to `end_us` (exclusive).

    Attributes:
        fault: its kind.
        size: how far it goes, 0 … 1; says nothing for recordings.
        ramp_us: how long it grows before it has its size.
    """

    device: str
    fault: str
    start_us: int
    end_us: int
    size: float = 1.0
    ramp_us: int = 0

    def level(self, t_us: int) -> float:
        """How far the fault has gone at this time: 0 outside, growing on the ramp, then `size`."""
        if not self.start_us <= t_us < self.end_us:
            return 0.0
        if t_us - self.start_us >= self.ramp_us:
            return self.size
        return self.size * (t_us - self.start_us) / self.ramp_us

    def overlap(self, start_us: int, end_us: int) -> int:
        """Microseconds of the span during which the fault was there."""
        return max(0, min(self.end_us, end_us) - max(self.start_us, start_us))


class Truth(Protocol):
    """Where the true faults come from: a schedule, or labels of recordings."""

    def episodes(self, device: str, start_us: int, end_us: int) -> Sequence[Episode]:
        """Faults of the device that overlap the span, in order of time."""
        ...


class FaultSchedule:
    """An endless sequence of faults, each a function of (seed, its number), so that any time can be asked for.

    The first fault begins `first_s` after `start_us`, further ones every `every_s` (and up to 0.5 s later), each 4 to
    7 s long. Pumps take turns from a random one on; each kind comes once in every three faults.
    Raises ValueError where a pump's turn would come before its last fault is over.
    """

    def __init__(self, seed: int, start_us: int, devices: Sequence[str], *, first_s: float = 3.0, every_s: float = 6.5) -> None:
        if len(devices) * every_s < _LONGEST + _JITTER:
            raise ValueError(f"{len(devices)} devices, a fault every {every_s} s: the faults of one would overlap")
        self.start_us = start_us
        self.devices = tuple(devices)
        self._seed = seed
        self._first_us = round(first_s * _SECOND)
        self._every_us = round(every_s * _SECOND)
        self._turn = Random(f"{seed}:turn").randrange(len(devices))
        self._known = lru_cache(maxsize=64)(self._draw)

    def episode(self, number: int) -> Episode:
        """The fault with this number, from 0 on."""
        return self._known(number)

    def _draw(self, number: int) -> Episode:
        block, place = divmod(number, len(FAULTS))
        kinds = Random(f"{self._seed}:kinds:{block}").sample(FAULTS, len(FAULTS))
        draw = Random(f"{self._seed}:episode:{number}")
        jitter = draw.uniform(0.0, _JITTER) if number else 0.0
        start = self.start_us + self._first_us + number * self._every_us + round(jitter * _SECOND)
        return Episode(
            device=self.devices[(self._turn + number) % len(self.devices)],
            fault=kinds[place],
            start_us=start,
            end_us=start + round(draw.uniform(4.0, _LONGEST) * _SECOND),
            size=draw.uniform(0.45, 1.0),
            ramp_us=round(draw.uniform(1.0, 2.5) * _SECOND),
        )

    def episodes(self, device: str, start_us: int, end_us: int) -> list[Episode]:
        """Faults of the device that overlap the span, in order of time."""
        reach = round((_LONGEST + _JITTER) * _SECOND)
        since = self.start_us + self._first_us
        first = max(0, (start_us - reach - since) // self._every_us)
        last = (end_us - since) // self._every_us
        numbers = range(first, max(first, last + 1))
        found = (self.episode(number) for number in numbers if self._is_turn_of(device, number))
        return [episode for episode in found if episode.overlap(start_us, end_us)]

    def active(self, device: str, t_us: int) -> Episode | None:
        """The fault that the device has at this time."""
        return next(iter(self.episodes(device, t_us, t_us + 1)), None)

    def truth(self, device: str, t_us: int) -> str:
        """`normal`, `valve`, `imbalance` or `leak`."""
        episode = self.active(device, t_us)
        return episode.fault if episode else NORMAL

    def _is_turn_of(self, device: str, number: int) -> bool:
        return self.devices[(self._turn + number) % len(self.devices)] == device


class RecordedTruth:
    """Faults that are known beforehand, from the labels of recordings. Episodes of one device must not overlap."""

    def __init__(self, episodes: Sequence[Episode]) -> None:
        self._of: dict[str, list[Episode]] = {}
        for episode in sorted(episodes, key=lambda found: found.start_us):
            self._of.setdefault(episode.device, []).append(episode)

    def episodes(self, device: str, start_us: int, end_us: int) -> list[Episode]:
        """Faults of the device that overlap the span, in order of time."""
        known = self._of.get(device, [])
        first = max(0, bisect_right(known, start_us, key=lambda episode: episode.start_us) - 1)
        last = bisect_right(known, end_us, key=lambda episode: episode.start_us)
        return [episode for episode in known[first:last] if episode.overlap(start_us, end_us)]
