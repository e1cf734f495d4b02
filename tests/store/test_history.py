"""History against a plain list: nothing lost, one value a time, levels that agree, gaps that are gaps."""

import itertools
import math
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule, run_state_machine_as_test

from skerry.core.clock import ManualClock
from skerry.core.errors import OverloadedError, RejectedError
from skerry.store import StorageConfig, SyncKeyValueStore
from skerry.store import history as history_module
from skerry.store.history import DAY, HOUR, MINUTE, MOST_WAITING, Archive, Keep

NOW = 1_700_000_000_000_000 // DAY * DAY
SECOND = 1_000_000
KEPT = 2 * DAY


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(NOW)


@pytest.fixture
def store(tmp_path: Path, clock: ManualClock) -> Iterator[SyncKeyValueStore]:
    with SyncKeyValueStore(StorageConfig(path=tmp_path / "kv"), clock) as kv:
        yield kv


@pytest.fixture
def archive(store: SyncKeyValueStore, clock: ManualClock) -> Archive:
    return Archive(store, clock=clock)


def columns(rows: dict[int, float]) -> tuple[np.ndarray, np.ndarray]:
    ordered = sorted(rows.items())
    return np.array([time for time, _ in ordered], np.int64), np.array([value for _, value in ordered], np.float64)


def expected(rows: dict[int, float], start: int, end: int, every: int, aggregate: str) -> list[tuple[int, float]]:
    buckets: dict[int, list[float]] = {}
    for time, value in sorted(rows.items()):
        if start <= time < end:
            buckets.setdefault(time // every * every, []).append(value)
    how = {"mean": np.mean, "min": min, "max": max, "sum": sum, "count": len, "last": lambda found: found[-1]}[aggregate]
    return [(at, float(how(found))) for at, found in sorted(buckets.items())]


def check(archive: Archive, rows: dict[int, float], start: int, end: int, every: int, aggregate: str) -> None:
    times, values = archive.query("s", start, end, every, aggregate)
    wanted = expected(rows, start, end, every, aggregate)
    assert times.tolist() == [time for time, _ in wanted]
    assert values.tolist() == pytest.approx([value for _, value in wanted], rel=1e-9, abs=1e-9)


class Model(RuleBasedStateMachine):
    """An archive beside a dictionary of time to value, with flushes, crashes, reopening and days that pass in between.

    After a crash the caller appends again what came behind the cursor, as one who reads a log does."""

    directory: Path
    numbers = itertools.count()

    @initialize()
    def begin(self) -> None:
        self.clock = ManualClock(NOW + 9 * HOUR)
        self.path = self.directory / f"{next(self.numbers)}"
        self.rows: dict[int, float] = {}
        self.since: list[list[tuple[int, float]]] = []
        self.cursor = 0
        self.open()

    def open(self) -> None:
        self.store = SyncKeyValueStore(StorageConfig(path=self.path, max_size="64MiB"), self.clock)
        self.archive = Archive(self.store, Keep(raw=KEPT), self.clock)

    @rule(
        rows=st.lists(
            st.tuples(st.integers(0, 3 * 3600).map(lambda s: s * 10 * SECOND), st.integers(-1000, 1000).map(lambda n: n / 10)),
            max_size=30,
        ),
        late=st.booleans(),
    )
    def append(self, rows: list[tuple[int, float]], late: bool) -> None:
        begin = self.clock.now() - 9 * HOUR - (DAY if late else 0)
        placed = [(begin + time, value) for time, value in rows]
        self.since.append(placed)
        self.take(placed)

    def take(self, rows: list[tuple[int, float]]) -> None:
        self.archive.append("s", np.array([time for time, _ in rows], np.int64), np.array([value for _, value in rows], np.float64))
        self.rows.update((time, value) for time, value in rows if time >= self.clock.now() - KEPT)

    @rule()
    def flush(self) -> None:
        self.cursor += len(self.since)
        self.since = []
        self.archive.flush({"log": self.cursor}, durable=False)

    @rule()
    def reopen(self) -> None:
        self.flush()
        self.store.close()
        self.open()

    @rule()
    def crash(self) -> None:
        # what is in the files now is what kill -9 leaves
        left = self.directory / f"{next(self.numbers)}"
        shutil.copytree(self.path, left)
        self.store.close()
        self.path = left
        self.open()
        assert (self.archive.cursor("log") or 0) == self.cursor
        for rows in self.since:
            self.take(rows)

    @rule(days=st.integers(1, 2))
    def pass_days(self, days: int) -> None:
        self.flush()
        self.clock.advance(days * DAY)
        self.archive.retain()

    @rule(
        start=st.integers(0, 30 * 60),
        length=st.integers(0, 30 * 60),
        every=st.sampled_from([SECOND, 30 * SECOND, MINUTE, 5 * MINUTE, HOUR, 2 * HOUR, DAY]),
        aggregate=st.sampled_from(["mean", "min", "max", "sum", "count", "last"]),
    )
    def ask(self, start: int, length: int, every: int, aggregate: str) -> None:
        begin = (NOW + start * MINUTE) // every * every
        if every < MINUTE:
            begin = max(begin, -(-(self.clock.now() - KEPT) // DAY) * DAY)
        check(self.archive, self.rows, begin, begin + -(-length * MINUTE // every) * every, every, aggregate)

    @rule()
    def ask_all(self) -> None:
        check(self.archive, self.rows, NOW - 2 * DAY, NOW + 99 * DAY, HOUR, "sum")
        check(self.archive, self.rows, NOW - 2 * DAY, NOW + 99 * DAY, DAY, "count")

    @rule()
    def ask_raw(self) -> None:
        times, values = self.archive.query("s", NOW - 2 * DAY, NOW + 99 * DAY)
        kept = (self.clock.now() - KEPT) // HOUR * HOUR
        wanted_times, wanted_values = columns({time: value for time, value in self.rows.items() if time >= kept})
        assert times.tolist() == wanted_times.tolist()
        assert values.tolist() == wanted_values.tolist()

    def teardown(self) -> None:
        if hasattr(self, "store"):
            self.store.close()


def test_the_archive_is_a_list_that_lasts(tmp_path: Path) -> None:
    Model.directory = tmp_path
    run_state_machine_as_test(Model, settings=settings(max_examples=12, stateful_step_count=15, deadline=None))


def test_quantiles_are_off_by_one_percent_at_most_over_all_levels(archive: Archive) -> None:
    values = np.random.default_rng(3).lognormal(3, 1, 7200)
    archive.append("s", NOW + np.arange(7200) * SECOND, values)
    for every, parts in ((30 * SECOND, 240), (MINUTE, 120), (HOUR, 2)):
        for percent in ("p50", "p95", "p99"):
            _, found = archive.query("s", NOW, NOW + 2 * HOUR, every, percent)
            exact = [np.quantile(part, float(percent[1:]) / 100, method="lower") for part in np.split(values, parts)]
            assert found.tolist() == pytest.approx(exact, rel=0.0101)


def test_gaps_are_gaps_and_nan_counts_for_nothing(archive: Archive) -> None:
    archive.append("s", NOW + np.array([0, 1, 7200]) * SECOND, np.array([1.0, math.nan, 3.0]))
    times, values = archive.query("s", NOW, NOW + DAY, MINUTE, "mean")
    assert times.tolist() == [NOW, NOW + 2 * HOUR]
    assert values.tolist() == [1.0, 3.0]
    raw = archive.query("s", NOW, NOW + DAY)[1]
    assert len(raw) == 3
    assert math.isnan(raw[1])
    assert archive.query("nobody", NOW, NOW + DAY)[0].tolist() == []


def test_late_and_doubled_samples_land_in_their_place_and_the_last_stays(archive: Archive) -> None:
    archive.append("s", NOW + np.array([10, 20]) * SECOND, np.array([1.0, 2.0]))
    archive.flush()
    archive.append("s", NOW + np.array([15, 10, 10]) * SECOND, np.array([7.0, 8.0, 9.0]))
    times, values = archive.query("s", NOW, NOW + MINUTE)
    assert ((times - NOW) // SECOND).tolist() == [10, 15, 20]
    assert values.tolist() == [9.0, 7.0, 2.0]
    assert archive.query("s", NOW, NOW + HOUR, HOUR, "sum")[1].tolist() == [18.0]


def test_each_level_is_kept_for_its_time_and_the_next_one_answers(store: SyncKeyValueStore, clock: ManualClock) -> None:
    archive = Archive(store, Keep(raw=2 * DAY, minutes=4 * DAY, hours=8 * DAY), clock)
    day = NOW
    for _ in range(10):
        archive.append("s", day + np.arange(24 * 60) * MINUTE, np.ones(24 * 60))
        archive.flush(durable=False)
        day += DAY
        clock.advance(DAY)
        archive.retain()
    assert archive.query("s", NOW, day)[0].min() >= day - 3 * DAY
    times, counts = archive.query("s", NOW, day, HOUR, "count")
    assert set(counts.tolist()) == {60.0}
    assert times.tolist() == list(range(int(times[0]), day, HOUR))
    assert 8 * DAY <= day - int(times[0]) <= 9 * DAY
    _, minutes = archive.query("s", NOW, day, MINUTE, "count")
    assert set(minutes.tolist()) == {1.0, 60.0}
    assert 3 * 24 * 60 <= np.count_nonzero(minutes == 1.0) <= 4 * 24 * 60
    clock.advance(20 * DAY)
    assert archive.retain() > 0
    assert archive.series() == []


def test_a_sample_older_than_raw_is_kept_is_counted_and_left(archive: Archive) -> None:
    archive.append("s", np.array([NOW - 8 * DAY, NOW]), np.array([1.0, 2.0]))
    assert archive.counts == {"samples": 1, "too_late": 1}
    assert archive.query("s", 0, NOW + DAY)[1].tolist() == [2.0]


def test_a_cursor_goes_with_its_samples(store: SyncKeyValueStore, archive: Archive, clock: ManualClock) -> None:
    assert archive.cursor("log") is None
    archive.append("s", np.array([NOW]), np.array([1.0]))
    archive.flush({"log": 41})
    archive.append("s", np.array([NOW + 1]), np.array([2.0]))
    again = Archive(store, clock=clock)
    assert again.cursor("log") == 41
    assert again.query("s", NOW, NOW + DAY)[1].tolist() == [1.0]
    archive.flush({"log": 42, "events": 7})
    assert Archive(store, clock=clock).query("s", NOW, NOW + DAY)[1].tolist() == [1.0, 2.0]


def test_series_are_listed_and_do_not_mix(archive: Archive) -> None:
    for name in ("pump-1/x", "pump-1/xy", "pump-2/x"):
        archive.append(name, np.array([NOW]), np.array([float(len(name))]))
    assert archive.series("pump-1") == ["pump-1/x", "pump-1/xy"]
    assert archive.query("pump-1/x", 0, NOW + DAY)[1].tolist() == [8.0]


@pytest.mark.parametrize(
    ("series", "times", "values"),
    [
        ("", np.array([1]), np.array([1.0])),
        ("a\0b", np.array([1]), np.array([1.0])),
        ("s" * 513, np.array([1]), np.array([1.0])),
        ("s", np.array([1.0]), np.array([1.0])),
        ("s", np.array([1, 2]), np.array([1.0])),
    ],
)
def test_what_is_no_series_or_sample_is_refused(archive: Archive, series: str, times: np.ndarray, values: np.ndarray) -> None:
    with pytest.raises(RejectedError):
        archive.append(series, times, values)


def test_what_waits_is_bounded(archive: Archive) -> None:
    times = NOW + np.arange(MOST_WAITING)
    archive.append("s", times, times.astype(np.float64))
    with pytest.raises(OverloadedError, match="flush"):
        archive.append("s", times[:1], np.zeros(1))


def test_unknown_aggregates_and_widths_are_refused(archive: Archive) -> None:
    archive.append("s", np.array([NOW]), np.array([1.0]))
    with pytest.raises(RejectedError, match="mean, min"):
        archive.query("s", NOW, NOW + DAY, MINUTE, "median")
    with pytest.raises(RejectedError, match="every"):
        archive.query("s", NOW, NOW + DAY, 0)


def pages(archive: Archive, start: int, end: int, every: int | None, limit: int) -> list[tuple[list[int], list[float]]]:
    found = []
    begin: int | None = start
    while begin is not None:
        times, values, begin = archive.page("s", begin, end, every, "sum", limit)
        found.append((times.tolist(), values.tolist()))
    return found


@pytest.mark.parametrize("every", [None, SECOND, 90 * SECOND, MINUTE, HOUR])
@pytest.mark.parametrize("flushed", [True, False])
def test_pages_are_the_whole_and_pass_over_what_is_empty(archive: Archive, every: int | None, flushed: bool) -> None:
    steps = np.concatenate([np.arange(200), 5 * 24 * 3600 + np.arange(100)])
    archive.append("s", NOW - 6 * DAY + steps * SECOND, np.arange(300.0))
    if flushed:
        archive.flush()
    whole = archive.query("s", NOW - 7 * DAY, NOW, every, "sum")
    found = pages(archive, 0, 1 << 55, every, 190)
    assert len(found) < 45
    assert [time for times, _ in found for time in times] == whole[0].tolist()
    assert [value for _, values in found for value in values] == whole[1].tolist()
    assert pages(archive, NOW, NOW + DAY, every, 70) == [([], [])]
    assert archive.page("nobody", 0, NOW, every, "sum", 70)[2] is None


def test_narrow_stretches_are_no_more_pages_than_there_is_to_say(archive: Archive, clock: ManualClock) -> None:
    steps = np.concatenate([np.arange(50), 3000 + np.arange(50)])
    for begin in (NOW - 6 * DAY, NOW - 7200 * SECOND):
        archive.append("s", begin + steps * SECOND, np.ones(100))
    archive.flush()
    found = pages(archive, NOW - 30 * DAY, NOW, 1, 60)
    assert sum(len(times) for times, _ in found) == 200
    assert len(found) < 15
    clock.advance(4 * DAY)  # of the older ones the minutes are left
    found = pages(archive, NOW - 30 * DAY, NOW, 7, 60)
    assert sum(sum(values) for _, values in found) == pytest.approx(200)
    assert len(found) < 100


def test_a_large_flush_is_several_batches_and_the_cursor_comes_with_the_last(
    store: SyncKeyValueStore, archive: Archive, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(history_module, "MOST_AT_ONCE", 5000)
    times = NOW + np.arange(4000) * SECOND
    for number in range(5):
        archive.append(f"s{number}", times, times / 7)
    before = store.stats()["groups"]
    archive.flush({"log": 3})
    assert store.stats()["groups"] - before >= 5
    assert archive.waiting == 0
    again = Archive(store, clock=clock)
    assert again.cursor("log") == 3
    assert all(again.query(f"s{number}", NOW, NOW + DAY)[1].tolist() == (times / 7).tolist() for number in range(5))


def test_the_oldest_goes_first_raw_before_minutes_and_hours_stay(store: SyncKeyValueStore, archive: Archive) -> None:
    for name in ("s", "other"):
        archive.append(name, NOW - 2 * DAY + np.arange(0, 2 * DAY, 10 * SECOND), np.random.default_rng(1).normal(size=17_280))
    archive.flush()
    counts = archive.query("s", NOW - 2 * DAY, NOW, HOUR, "count")
    freed = archive.drop_oldest(100_000)
    assert 100_000 <= freed < 120_000
    firsts = [int(archive.query(name, NOW - 2 * DAY, NOW)[0][0]) for name in ("s", "other")]
    assert NOW - 2 * DAY < min(firsts) <= max(firsts) <= min(firsts) + HOUR
    assert archive.drop_oldest(1 << 40) > 100_000
    assert archive.query("s", NOW - 2 * DAY, NOW)[0].min() >= NOW - HOUR
    left = archive.query("s", NOW - 2 * DAY, NOW, HOUR, "count")
    assert [left[0].tolist(), left[1].tolist()] == [counts[0].tolist(), counts[1].tolist()]
    assert archive.drop_oldest(1 << 40) == 0
    late, held = archive.counts["too_late"], archive.query("s", NOW - 2 * DAY, NOW, HOUR, "sum")[1]
    archive.append("s", NOW - DAY + np.arange(5), np.ones(5))
    archive.append("s", NOW + np.arange(5), np.ones(5))
    archive.flush()
    assert archive.counts["too_late"] - late == 5
    assert archive.query("s", NOW - 2 * DAY, NOW, HOUR, "sum")[1].tolist() == held.tolist()
    assert archive.query("s", NOW, NOW + HOUR)[1].tolist() == [1.0] * 5


def test_a_reader_answers_by_how_long_the_owner_keeps(store: SyncKeyValueStore, clock: ManualClock) -> None:
    keep = Keep(raw=2 * HOUR, minutes=3 * DAY, hours=9 * DAY)
    owner = Archive(store, keep, clock)
    owner.append("s", NOW - np.arange(60) * MINUTE, np.ones(60))
    owner.flush()
    assert Archive(store, clock=clock)._keep == keep
    assert Archive(store, Keep(), clock)._keep == Keep()
    assert Archive(store, clock=clock)._keep == Keep()


def test_a_clock_set_far_ahead_deletes_nothing(store: SyncKeyValueStore, archive: Archive, clock: ManualClock) -> None:
    times = NOW - HOUR + np.arange(60) * MINUTE
    archive.append("s", times, np.arange(60.0))
    archive.flush()
    archive.retain()
    clock.set(NOW + 365 * DAY)
    assert archive.doubts_the_clock
    assert archive.retain() == 0
    archive.append("s", times + SECOND, np.arange(60.0))  # a device with the right time is not late
    archive.flush()
    assert archive.counts["too_late"] == 0
    # nor after a restart: the time that was seen last is in the store
    again = Archive(store, clock=clock)
    assert again.retain() == 0
    assert len(again.query("s", 0, 1 << 55)[0]) == 120
    clock.advance(2 * DAY)
    assert again.retain() > 0
    assert not again.doubts_the_clock


def test_roll_ups_alone_can_be_given_up(archive: Archive) -> None:
    archive.append("s", NOW - 10 * HOUR + np.arange(3600) * SECOND, np.arange(3600.0))
    archive.flush()
    assert archive.drop_oldest(1, [history_module.MINUTES]) > 0
    assert len(archive.query("s", 0, 1 << 55)[0]) == 3600
    assert archive.drop_oldest(1 << 30, [history_module.MINUTES]) == 0
    assert archive.drop_oldest(1 << 30) > 0
    assert len(archive.query("s", 0, 1 << 55)[0]) == 0
