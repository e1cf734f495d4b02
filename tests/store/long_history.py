"""Weeks of history in minutes: channels at 1 Hz with gaps, late and corrected samples, hour by hour on a clock of its own.

At the end of each day the same queries are asked of the archive and of numpy, which makes the raw samples anew from the seed.
"""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

from skerry.core.clock import ManualClock
from skerry.store import Archive, Floats, Ints, Keep, StorageConfig, SyncKeyValueStore
from skerry.store.history import DAY, HOUR, HOURS, MINUTE, MINUTES, RAW

BEGIN = 1_700_000_000_000_000 // DAY * DAY
SECOND = 1_000_000
AGGREGATES: dict[str, Callable[[Floats, Ints, Ints], Floats]] = {
    "mean": lambda values, first, counts: np.add.reduceat(values, first) / counts,
    "min": lambda values, first, counts: np.minimum.reduceat(values, first),
    "max": lambda values, first, counts: np.maximum.reduceat(values, first),
    "sum": lambda values, first, counts: np.add.reduceat(values, first),
    "count": lambda values, first, counts: counts.astype(np.float64),
    "last": lambda values, first, counts: values[first + counts - 1],
    "p95": lambda values, first, counts: _quantiles(values, first, counts, 0.95),
}


def _quantiles(values: Floats, first: Ints, counts: Ints, q: float) -> Floats:
    stretch = np.repeat(np.arange(len(first)), counts)
    return values[np.lexsort((values, stretch))][first + np.floor(q * (counts - 1)).astype(np.int64)]


class Day(NamedTuple):
    """A channel's day: what is there in the end; of each sample, whether it comes an hour late or came wrong first."""

    times: Ints
    values: Floats
    late: np.ndarray
    wrong: np.ndarray


def day_of(seed: int, channel: int, day: int) -> Day:
    """The same each time. Of ten channels two have late, wrong and unordered samples; each fourth day has a gap."""
    chance = np.random.default_rng((seed, channel, day))
    times = BEGIN + day * DAY + np.arange(86_400) * SECOND
    values = np.round(20 + 5 * np.sin(np.arange(86_400) / 13_750) + np.cumsum(chance.normal(0, 0.02, 86_400)), 2)
    if (channel + day) % 4 == 0:
        begin, length = chance.integers(0, 80_000), chance.integers(60, 12_000)
        times, values = np.delete(times, np.s_[begin : begin + length]), np.delete(values, np.s_[begin : begin + length])
    unruly = channel % 5 == 0
    late, wrong = (chance.random(len(times)) < share * unruly for share in (0.005, 0.001))
    return Day(times, values, late, wrong)


def feed(days: dict[int, Day], hour: int, unruly: bool) -> tuple[Ints, Floats]:
    """What comes in one hour: its own samples, and late ones and corrections of the hour before; unruly ones in no order."""
    found: list[tuple[Ints, Floats]] = []
    for at in (hour - 1, hour):
        if at // 24 not in days:
            continue
        day = days[at // 24]
        first, last = np.searchsorted(day.times, [BEGIN + at * HOUR, BEGIN + (at + 1) * HOUR])
        times, values, late, wrong = (column[first:last] for column in day)
        mine = late | wrong if at < hour else ~late
        found.append((times[mine], (values + wrong if at == hour else values)[mine]))
    times, values = (np.concatenate([each[column] for each in found]) for column in (0, 1))
    if unruly:
        order = np.random.default_rng(hour).permutation(len(times))
        times, values = times[order], values[order]
    return times, values


class LongHistory:
    """`channels` channels at 1 Hz, day after day."""

    def __init__(self, folder: Path, seed: int, channels: int, keep: Keep) -> None:
        self.seed, self.channels, self.keep = seed, channels, keep
        self.samples = self.queries = 0
        self.sizes: list[int] = []
        self.disk: list[int] = []
        self.folder = folder / "kv"
        self.clock = ManualClock(BEGIN)
        self.store = SyncKeyValueStore(StorageConfig(self.folder, "4GiB", "none", "8MiB", "8MiB"), self.clock)
        self.archive = Archive(self.store, keep, self.clock)
        self._days: list[dict[int, Day]] = [{} for _ in range(channels)]

    def live(self, day: int) -> None:
        """One day, and the first hour of the next one's late samples."""
        for channel, days in enumerate(self._days):
            days.pop(day - 2, None)
            days[day] = day_of(self.seed, channel, day)
        for hour in range(day * 24, day * 24 + 24):
            self.clock.advance(HOUR)
            for channel, days in enumerate(self._days):
                times, values = feed(days, hour, channel % 5 == 0)
                self.archive.append(f"c{channel}", times, values)
                self.samples += len(times)
            self.archive.flush({"log": hour}, durable=hour % 6 == 0)
            if hour % 6 == 5:
                self.archive.retain()
        self.store.compact()
        tables = [self.store.scan(table=table) for table in (RAW, MINUTES, HOURS)]
        self.sizes.append(sum(len(key) + len(block) for table in tables for key, block in table))
        self.disk.append(sum(file.stat().st_blocks * 512 for file in self.folder.rglob("*") if file.is_file()))

    def samples_of(self, channel: int, start: int, end: int) -> tuple[Ints, Floats]:
        """What must be there of `[start, end)`: all but the last hour's late samples, which are still to come."""
        now = self.clock.now()
        whole = range(max(0, (start - BEGIN) // DAY), -(-(end - BEGIN) // DAY))
        days = [self._days[channel].get(day) or day_of(self.seed, channel, day) for day in whole]
        times, values, late, wrong = (np.concatenate([day[column] for day in days]) for column in range(4))
        last = times >= now - HOUR
        kept = (times >= start) & (times < end) & ~(late & last)
        return times[kept], (values + (wrong & last))[kept]

    def check(self, channel: int) -> None:
        """Every query of the fixed set says what numpy says."""
        now, name = self.clock.now(), f"c{channel}"
        for start, end in self._ranges(now, self.keep.raw):
            found, wanted = self.archive.query(name, start, end), self.samples_of(channel, start, end)
            assert np.array_equal(found[0], wanted[0]), (name, start, end)
            assert np.array_equal(found[1], wanted[1]), (name, start, end)
            self.queries += 1
        for keep, widths in (
            (self.keep.raw, (30 * SECOND,)), (self.keep.minutes, (MINUTE, 15 * MINUTE)), (self.keep.hours, (HOUR, 6 * HOUR, DAY)),
        ):  # fmt: skip
            for start, end in self._ranges(now, keep):
                for width in widths:
                    self._check_widths(channel, start // width * width, end // width * width, width)

    def _ranges(self, now: int, keep: int) -> Iterator[tuple[int, int]]:
        """The last hour, some hours in between, and all that is kept whole."""
        oldest = max(BEGIN, -(-(now - keep) // DAY) * DAY)
        yield now - HOUR, now
        yield max(oldest, now - 31 * HOUR), max(oldest, now - 17 * HOUR)
        yield oldest, now

    def _check_widths(self, channel: int, start: int, end: int, width: int) -> None:
        if start >= end:
            return
        times, values = self.samples_of(channel, start, end)
        starts, first = np.unique(times // width * width, return_index=True)
        counts = np.diff(first, append=len(times))
        for aggregate, of in AGGREGATES.items():
            found = self.archive.query(f"c{channel}", start, end, width, aggregate)
            assert np.array_equal(found[0], starts), (channel, start, end, width, aggregate)
            # a sketch's quantile is off by one per cent
            apart = 0.0101 if aggregate == "p95" else 1e-9
            wanted = of(values, first, counts) if len(first) else values
            assert np.allclose(found[1], wanted, rtol=apart, atol=1e-9), (channel, start, end, width, aggregate)
            self.queries += 1

    @property
    def settled(self) -> int:
        """The day by whose end each level has begun to go."""
        return -(-max(self.keep.raw, self.keep.minutes, self.keep.hours) // DAY) + 1

    def check_flat(self) -> None:
        """From the day on by whose end all levels go, the size stays what it was."""
        settled = self.sizes[self.settled :]
        assert len(settled) > 1
        assert max(settled) <= 1.05 * min(settled), settled
