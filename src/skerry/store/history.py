"""History: samples of any number of series, packed by the hour, rolled up to minutes and hours, each level kept for its time.

One hour of one series is one block, rewritten as samples come; the same hour's minutes are another, the day's hours a third. Of
samples with one time the last one stays, so that what is appended again changes nothing. The caller's cursors are stored with the
last samples of a flush, in one batch of the store: after a crash a caller reads on from there, nothing is missing and nothing is
there twice.
"""

import heapq
import struct
import threading
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from itertools import islice

import msgspec
import numpy as np

from skerry.core.clock import Clock, SteadyClock, SystemClock
from skerry.core.errors import OverloadedError, RejectedError, StoreFull
from skerry.store.blocking import SyncKeyValueStore
from skerry.store.blocks import check_samples, key_of, number_of
from skerry.store.columns import Floats, Ints, pack, unpack
from skerry.store.rollup import Rollup, answer, coarser, decode, encode, in_order, joined, part, roll, within
from skerry.store.thin import Part, Thin

MINUTE, HOUR, DAY = 60_000_000, 3_600_000_000, 86_400_000_000
RAW, MINUTES, HOURS, SERIES, CURSORS, ABOUT = "raw", "minutes", "hours", "series", "cursors", "about"
MOST_WAITING = 1 << 21
MOST_OPEN = 1 << 21
MOST_AT_ONCE = 1 << 20
"""Samples, and by the thousand blocks, of one batch of the store."""
_SPAN = {RAW: HOUR, MINUTES: HOUR, HOURS: DAY}
_WIDTH = {MINUTES: MINUTE, HOURS: HOUR}
_NUMBER = struct.Struct(">q")
_SEEN = b"seen"
_NO_TIMES, _NO_VALUES = np.empty(0, np.int64), np.empty(0, np.float64)


class Keep(msgspec.Struct, frozen=True):
    """How long each level is kept, in microseconds."""

    raw: int = 7 * DAY
    minutes: int = 90 * DAY
    hours: int = 5 * 365 * DAY


class Archive:
    """The history in a store, for one owner. Calls are good from any thread, one at a time.

    `counts`: samples taken in, and those too late for the raw level (`too_late`). Without `keep` it is as the store's last owner
    had it.
    """

    def __init__(self, store: SyncKeyValueStore, keep: Keep | None = None, clock: Clock | None = None) -> None:
        self.counts = {"samples": 0, "too_late": 0}
        self._store = store
        self._keep = self._agreed(keep)
        seen = store.get(_SEEN, table=ABOUT)
        self._clock = SteadyClock(clock or SystemClock(), None if seen is None else _NUMBER.unpack(seen)[0])
        self._lock = threading.RLock()
        self._flushing = threading.Lock()
        self._waiting: dict[tuple[str, int], list[Part]] = {}
        self._thin = Thin()
        self._waiting_samples = 0
        self._open: OrderedDict[tuple[str, int], tuple[Ints, Floats]] = OrderedDict()
        self._open_samples = 0
        self._known = {key.decode() for key, _ in store.scan(table=SERIES)}

    def _agreed(self, keep: Keep | None) -> Keep:
        stored = self._store.get(b"keep", table=ABOUT)
        if keep is None:
            return msgspec.msgpack.decode(stored, type=Keep) if stored is not None else Keep()
        told = msgspec.msgpack.encode(keep)
        if told != stored:
            self._store.set(b"keep", told, table=ABOUT)
        return keep

    def append(self, series: str, times: Ints, values: Floats, *, keep: bool = True) -> None:
        """Take samples in; they are on the disk after the next `flush`.

        Args:
            series: its name, 1 to 512 bytes, such as `pump-1/vibration/x`.
            times: int64 [N], microseconds, in any order; values: float64 [N].
            keep: False: they go into the roll-ups alone.

        Raises `RejectedError` for other shapes, and `OverloadedError` over 2 million samples that wait for a flush.
        """
        check_samples(series, times, values)
        with self._lock:
            if self._waiting_samples + len(times) > MOST_WAITING:
                raise OverloadedError("more samples wait than may", mend="flush more often")
            fresh = times >= self._clock.now() - self._keep.raw
            if not fresh.all():
                self.counts["too_late"] += int(len(times) - fresh.sum())
                times, values = times[fresh], values[fresh]
            hours = times // HOUR
            for hour in np.unique(hours).tolist() if len(hours) > 1 and hours.min() != hours.max() else hours[:1].tolist():
                mine = hours == hour
                self._waiting.setdefault((series, hour), []).append((times[mine], values[mine], keep))
            self._waiting_samples += len(times)
            self.counts["samples"] += len(times)

    def flush(self, cursors: Mapping[str, int] | None = None, *, durable: bool = True) -> None:
        """Write what waits, and a caller's named cursors with the last of it. Raises `StoreFull`; then what is not written waits.

        Large ones are several batches, between which queries are answered; it is the cursors that make them one.
        """
        with self._flushing:
            while True:
                with self._lock:
                    some = self._some()
                    last = len(some) == len(self._waiting)
                    if some or cursors:
                        self._write(some, (cursors or {}) if last else {}, durable and last)
                    if last:
                        return

    def _some(self) -> list[tuple[str, int]]:
        """What waits, as much of it as one batch may hold."""
        found: list[tuple[str, int]] = []
        size = 0
        for at, parts in self._waiting.items():
            held = self._open.get(at)
            size += 1024 + sum(len(times) for times, _, _ in parts) + (len(held[0]) if held is not None else 0)
            if found and size > MOST_AT_ONCE:
                break
            found.append(at)
        return found

    def _write(self, some: list[tuple[str, int]], cursors: Mapping[str, int], durable: bool) -> None:
        whole = {at: columns for at in some if (columns := self._hour(at, self._waiting[at])) is not None}
        with self._store.batch(durable=durable) as batch:
            days: dict[tuple[str, int], list[Rollup]] = {}
            for (series, hour), (times, values) in whole.items():
                rows = self._thin.rolled((series, hour), roll(times, values, MINUTE))
                kept = self._thin.kept((series, hour), times)
                if kept is None:
                    batch.set(key_of(series, hour), pack(times, values), table=RAW)
                elif kept.any():
                    batch.set(key_of(series, hour), pack(times[kept], values[kept]), table=RAW)
                batch.set(key_of(series, hour), encode(rows), table=MINUTES)
                days.setdefault((series, hour // 24), []).append(coarser(rows, HOUR))
            for (series, day), hours in days.items():
                batch.set(key_of(series, day), encode(self._day(series, day, hours)), table=HOURS)
            for series in {series for series, _ in whole} - self._known:
                batch.set(series.encode(), b"", table=SERIES)
            for name, cursor in cursors.items():
                batch.set(name.encode(), _NUMBER.pack(cursor), table=CURSORS)
        self._known |= {series for series, _ in whole}
        for at in some:
            count = sum(len(times) for times, _, _ in self._waiting.pop(at))
            self._waiting_samples -= count
            if at in whole:
                self._remember(at, whole[at])
            else:
                self.counts["too_late"] += count

    def _hour(self, at: tuple[str, int], parts: list[Part]) -> tuple[Ints, Floats] | None:
        """What is there of an hour and what is new, in order, one a time; None where its samples were given up."""
        found = self._open.get(at)
        if found is None:
            block = self._store.get(key_of(*at), table=RAW)
            if block is None and at[1] < self._clock.now() // HOUR - 1 and self._given_up(*at):
                return None
            found = unpack(block) if block is not None else (_NO_TIMES, _NO_VALUES)
            self._thin.take_up(at, self._store.get(key_of(*at), table=MINUTES), found[0])
        self._thin.add(at, parts, found[0])
        times, values = (np.concatenate([found[column], *(each[column] for each in parts)]) for column in (0, 1))
        if not (np.diff(times) > 0).all():
            order = np.argsort(times, kind="stable")
            times, values = times[order], values[order]
            last = np.append(np.diff(times) > 0, [True])
            times, values = times[last], values[last]
        return times, values

    def _given_up(self, series: str, hour: int) -> bool:
        """Whether of an hour only what was made of its samples is left: that must not be made anew of late ones."""
        block = self._store.get(key_of(series, hour // 24), table=HOURS)
        return block is not None and bool((decode(block).starts == hour * HOUR).any())

    def _day(self, series: str, day: int, new: list[Rollup]) -> Rollup:
        """The hours of a day: those there are, and new ones, each of which takes the place of the one before."""
        block = self._store.get(key_of(series, day), table=HOURS)
        fresh = in_order(joined(new))
        if block is None:
            return fresh
        held = decode(block)
        before = int(np.searchsorted(held.starts, fresh.starts[0])) if len(fresh.starts) else len(held.starts)
        others = np.flatnonzero(~np.isin(held.starts[before:], fresh.starts)) + before
        return in_order(joined([part(held, 0, before), fresh, *(part(held, at) for at in others.tolist())]))

    def _remember(self, at: tuple[str, int], columns: tuple[Ints, Floats]) -> None:
        old = self._open.pop(at, None)
        self._open[at] = columns
        self._open_samples += len(columns[0]) - (len(old[0]) if old else 0)
        while self._open_samples > MOST_OPEN or len(self._open) > 4096:
            gone, (times, _) = self._open.popitem(last=False)
            self._open_samples -= len(times)
            self._thin.forget(gone)

    @property
    def doubts_the_clock(self) -> bool:
        """Whether the clock was set by more than an hour, which does not count for a day: what is old goes by the time before."""
        return self._clock.doubts

    @property
    def waiting(self) -> int:
        """Samples that the next flush will write."""
        return self._waiting_samples

    @property
    def count(self) -> int:
        """How many series there are on the disk."""
        return len(self._known)

    def cursor(self, name: str) -> int | None:
        """The cursor that the last flush with this name stored."""
        data = self._store.get(name.encode(), table=CURSORS)
        return None if data is None else int(_NUMBER.unpack(data)[0])

    def series(self, prefix: str = "") -> list[str]:
        """Names of all series, in order."""
        with self._lock:
            waiting = {series for series, _ in self._waiting}
            return sorted(name for name in self._known | waiting if name.startswith(prefix))

    def query(self, series: str, start: int, end: int, every: int | None = None, aggregate: str = "mean") -> tuple[Ints, Floats]:
        """Samples of `[start, end)`, or one number for each `every` microseconds that have samples.

        The coarsest level that can answer is read; where a level is no longer kept, the next one. Times are int64 [N], starts of
        stretches aligned to the epoch; values float64 [N]. An unknown series has no samples. Raises `RejectedError`.
        """
        if every is not None and every <= 0:
            raise RejectedError(f"{every} is no width", where="every", mend="give more than 0")
        if every is None:
            return self._samples(series, start, end)
        with self._lock:
            self._settle(series)
            level = HOURS if every % HOUR == 0 else MINUTES if every % MINUTE == 0 else RAW
            rows = joined(list(self._levels(series, start, end, every, level)))
            rows = coarser(in_order(rows), every)
            return rows.starts, answer(rows, aggregate)

    def _settle(self, series: str) -> None:
        """Write what waits of a series, so that it can be read."""
        mine = [at for at in self._waiting if at[0] == series]
        if mine:
            with suppress(StoreFull):  # what is on the disk can be read all the same
                self._write(mine, {}, durable=False)

    def _samples(self, series: str, start: int, end: int, most: int | None = None) -> tuple[Ints, Floats]:
        with self._lock:
            self._settle(series)
            return self._raw(series, start, end, most)

    def page(
        self, series: str, start: int, end: int, every: int | None, aggregate: str, limit: int
    ) -> tuple[Ints, Floats, int | None]:
        """As `query`, the first `limit` rows (or stretches, with samples or without), and where the next page begins, or None."""
        start = self._next(series, start, end)
        if every is not None and every > 0:
            reach = min(end, start // every * every + limit * every)
            if every % MINUTE:  # made of the samples themselves, of which a day is enough at once
                reach = min(reach, (start // every + max(1, DAY // every)) * every)
                reach = max(reach, self._full(series, start, end, every, limit))
            following = self._next(series, reach, end)
            return *self.query(series, start, reach, every, aggregate), following if following < end else None
        times, values = self._samples(series, start, end, limit + 1)
        if len(times) <= limit:
            return times, values, None
        return times[:limit], values[:limit], int(times[limit])

    def _full(self, series: str, start: int, end: int, every: int, limit: int) -> int:
        """Up to where `limit` rows go at most, in whole stretches: of narrow ones most are empty."""
        if start < self._raw_from:  # a row a minute at most
            return min(end, self._raw_from, (start // HOUR + limit // 60) * HOUR) // every * every
        times, _ = self._samples(series, start, end, limit + 1)
        return end if len(times) <= limit else int(times[limit]) // every * every

    @property
    def _raw_from(self) -> int:
        """From when on samples are read, earlier ones by the minute: a boundary between whole hours."""
        return -(-(self._clock.now() - self._keep.raw) // DAY) * DAY

    def _next(self, series: str, begin: int, end: int) -> int:
        """From when on something is kept of a series, `begin` or later; `end` where nothing is."""
        found = [end]
        with self._lock:
            found += [hour * HOUR for name, hour in self._waiting if name == series and hour >= begin // HOUR]
        for level in (RAW, MINUTES):
            first = self._oldest(level, series, begin // HOUR)
            found += [first[0] * HOUR] if first is not None else []
        for _, block in self._store.scan(begin=key_of(series, begin // DAY), end=key_of(series, 1 << 62), table=HOURS):
            ahead = decode(block).starts
            if len(ahead := ahead[ahead + HOUR > begin]):
                found.append(int(ahead[0]))
                break
        return max(begin, min(found))

    def _levels(self, series: str, start: int, end: int, every: int, level: str) -> Iterator[Rollup]:
        now = self._clock.now()
        horizons = {RAW: now - self._keep.raw, MINUTES: now - self._keep.minutes}
        upper = end
        for name in (RAW, MINUTES, HOURS)[(RAW, MINUTES, HOURS).index(level) :]:
            # the boundary lies between whole hours, so that no stretch is answered by two levels
            lower = max(start, -(-horizons[name] // DAY) * DAY) if name in horizons else start
            if lower >= upper:
                continue
            if name == RAW:
                yield roll(*self._raw(series, lower, upper), every)
            else:
                rows = joined([decode(block) for _, block in self._blocks(name, series, lower, upper)])
                yield within(rows, lower, upper, _WIDTH[name])
            upper = lower

    def _raw(self, series: str, start: int, end: int, most: int | None = None) -> tuple[Ints, Floats]:
        """Samples of `[start, end)`; with `most` at least so many of them, if there are, and no block more than it takes."""
        parts: list[tuple[Ints, Floats]] = []
        count = 0
        for _, block in self._blocks(RAW, series, start, end):
            parts.append(unpack(block))
            count += int(np.count_nonzero(parts[-1][0] >= start))
            if most is not None and count >= most:
                break
        times, values = (np.concatenate([each[column] for each in [(_NO_TIMES, _NO_VALUES), *parts]]) for column in (0, 1))
        first, last = np.searchsorted(times, [start, end])
        return times[first:last], values[first:last]

    def _blocks(self, level: str, series: str, start: int, end: int) -> Iterator[tuple[bytes, bytes]]:
        span = _SPAN[level]
        return self._store.scan(begin=key_of(series, start // span), end=key_of(series, -(-end // span)), table=level)

    def retain(self) -> int:
        """Remove what is older than its level is kept; answers how many blocks went."""
        now, gone = self._clock.now(), 0
        self._store.set(_SEEN, _NUMBER.pack(now), table=ABOUT, durable=False)
        horizons = {RAW: now - self._keep.raw, MINUTES: now - self._keep.minutes, HOURS: now - self._keep.hours}
        with self._lock:
            for level, horizon in horizons.items():
                for series in self._known:
                    ends = {"begin": key_of(series, -(1 << 62)), "end": key_of(series, horizon // _SPAN[level])}
                    old = self._store.scan(**ends, table=level)
                    while keys := [key for key, _ in islice(old, 512)]:
                        with self._store.batch(durable=False) as batch:
                            for key in keys:
                                batch.delete(key, table=level)
                        gone += len(keys)
            self._forget_empty()
        return gone

    def drop_oldest(self, size: int, levels: Sequence[str] | None = None) -> int:
        """Give up the oldest blocks, raw samples before minutes (or `levels` alone), until about `size` bytes are free; how many
        went. What belongs to this hour and the one before stays."""
        freed = 0
        with self._lock:
            for level in (RAW, MINUTES) if levels is None else levels:
                freed += self._drop(level, size - freed, self._clock.now() // HOUR - 1)
        return freed

    def _drop(self, level: str, size: int, before: int) -> int:
        heap = [found for series in self._known if (found := self._oldest(level, series, -(1 << 62))) is not None]
        heapq.heapify(heap)
        freed = 0
        while heap and freed < size and heap[0][0] < before:
            with self._store.batch(durable=False) as batch:
                while heap and freed < size and heap[0][0] < before and len(batch.puts) < 512:
                    hour, series, held = heapq.heappop(heap)
                    batch.delete(key_of(series, hour), table=level)
                    freed += held
                    if level == RAW and (columns := self._open.pop((series, hour), None)) is not None:
                        self._open_samples -= len(columns[0])
                        self._thin.forget((series, hour))
                    if (following := self._oldest(level, series, hour + 1)) is not None:
                        heapq.heappush(heap, following)
        return freed

    def _oldest(self, level: str, series: str, begin: int) -> tuple[int, str, int] | None:
        """Hour, series and size of a series' first block from an hour on."""
        first = next(self._store.scan(begin=key_of(series, begin), end=key_of(series, 1 << 62), table=level), None)
        return None if first is None else (number_of(first[0]), series, len(first[0]) + len(first[1]))

    def _forget_empty(self) -> None:
        waiting = {series for series, _ in self._waiting}
        for series in [name for name in self._known - waiting if not self._is_kept(name)]:
            self._store.delete(series.encode(), table=SERIES, durable=False)
            self._known.discard(series)

    def _is_kept(self, series: str) -> bool:
        ends = {"begin": key_of(series, -(1 << 62)), "end": key_of(series, 1 << 62)}
        return any(next(self._store.scan(**ends, table=level), None) is not None for level in (RAW, MINUTES, HOURS))
