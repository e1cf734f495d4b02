"""Windowers against windows by their definition, over random samples in random order."""

from collections import Counter
from itertools import pairwise

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from skerry.window.spec import WindowSpec
from skerry.window.state import LATE, NEVER, WINDOW_FULL, Closed, KeyState
from skerry.window.windower import silent_watermark, windower
from tests.window.naive import Sample, Window, aligned_windows, by_time, cut_counts, cut_sessions, cut_time

S = 1_000_000
END = 2**61
times = st.integers(0, 40).map(lambda tenths: tenths * S // 10) | st.integers(0, 4 * S)
samples_of_one = st.builds(Sample, times, st.floats(-9, 9), st.booleans())
samples = st.lists(samples_of_one, max_size=60)
sizes = st.sampled_from([(10, 10), (10, 5), (10, 3), (7, 4), (1, 1), (3, 2)])


class Driver:
    """Feeds one key as a pipeline does: a sample in, then what its watermark closes out."""

    def __init__(self, spec: WindowSpec) -> None:
        self.spec = spec
        self.logic = windower(spec)
        self.state = KeyState()
        self.closed: list[Closed] = []
        self.taken: list[Sample] = []
        self.refused: list[tuple[Sample, str]] = []

    def add(self, sample: Sample) -> str | None:
        reason = self.logic.add(self.state, (float(sample.time), sample.value), sample.first)
        if reason is None:
            self.taken.append(sample)
            self.close(self.state.newest - self.spec.lateness_us)
        else:
            self.refused.append((sample, reason))
        self.check_invariants()
        return reason

    def close(self, watermark: int) -> None:
        self.closed.extend(self.logic.close("k", self.state, watermark))

    def check_invariants(self) -> None:
        """A window is due exactly when one is open, never by now, and no open message is forgotten."""
        state = self.state
        if self.spec.kind in ("tumbling", "sliding", "session"):
            assert (state.due == NEVER) == (not state.panes)
            assert state.due > state.newest - self.spec.lateness_us
            assert state.due > state.closed
        opened = sum(pane.messages for pane in state.panes.values())
        accepted = sum(sample.first for sample in self.taken)
        assert sum(window.messages for window in self.closed) + opened == accepted


def rows(window: Closed) -> list[tuple[int, float]]:
    """Rows of a closed window as a stage would sort them."""
    assert len(window.flat) == 2 * window.samples
    pairs = [(int(time), value) for time, value in zip(window.flat[::2], window.flat[1::2], strict=True)]
    if not window.disordered:
        assert pairs == sorted(pairs, key=lambda pair: pair[0]), "out of order, and it does not say so"
    return sorted(pairs, key=lambda pair: pair[0])


def plain(windows: list[Closed]) -> list[Window]:
    return [Window(window.start, window.end, rows(window)) for window in windows]


def time_spec(size: int, every: int, lateness: int) -> WindowSpec:
    kind = "tumbling" if size == every else "sliding"
    step = "" if size == every else f"{every}00ms"
    return WindowSpec(kind=kind, size=f"{size}00ms", every=step, lateness=f"{lateness}ms")


@settings(max_examples=60, deadline=None)
@given(samples, sizes)
def test_with_patience_for_all_time_windows_are_what_the_definition_says(found: list[Sample], size: tuple[int, int]) -> None:
    driver = Driver(time_spec(*size, lateness=10_000))
    for sample in found:
        assert driver.add(sample) is None
    driver.close(END)
    assert plain(driver.closed) == cut_time(found, size[0] * S // 10, size[1] * S // 10)
    leaving = Counter(aligned_windows(sample.time, size[0] * S // 10, size[1] * S // 10)[-1] for sample in found if sample.first)
    assert all(window.messages == leaving[window.start, window.end] for window in driver.closed)
    assert driver.state.panes == {}


@settings(max_examples=80, deadline=None)
@given(samples, sizes, st.sampled_from([0, 100, 250, 1000]))
def test_a_sample_is_late_exactly_when_all_its_windows_are_over(found: list[Sample], size: tuple[int, int], lateness: int) -> None:
    driver = Driver(time_spec(*size, lateness=lateness))
    span, every = size[0] * S // 10, size[1] * S // 10
    newest = -NEVER
    kept: dict[tuple[int, int], list[Sample]] = {}
    for sample in found:
        watermark = newest - lateness * 1000
        opened = [bounds for bounds in aligned_windows(sample.time, span, every) if bounds[1] > watermark]
        assert driver.add(sample) == (None if opened else LATE)
        for bounds in opened:
            kept.setdefault(bounds, []).append(sample)
        newest = max(newest, sample.time) if opened else newest
    driver.close(END)
    assert sorted(plain(driver.closed)) == [Window(a, b, by_time(kept[a, b])) for a, b in sorted(kept)]
    assert len({(window.start, window.end) for window in driver.closed}) == len(driver.closed)


@settings(max_examples=60, deadline=None)
@given(samples, sizes)
def test_time_windows_close_in_order_of_time(found: list[Sample], size: tuple[int, int]) -> None:
    driver = Driver(time_spec(*size, lateness=200))
    for sample in found:
        driver.add(sample)
    driver.close(END)
    ends = [window.end for window in driver.closed]
    assert ends == sorted(ends)


def test_a_backlog_in_a_gap_is_late_as_a_whole_and_not_but_for_its_first_sample() -> None:
    driver = Driver(WindowSpec(kind="tumbling", size="1s"))
    assert driver.add(Sample(10 * S, 1.0)) is None
    assert [driver.add(Sample(5 * S + at, 1.0)) for at in (0, 100, 200)] == [LATE] * 3
    assert driver.closed == []


def test_what_lies_within_the_lateness_counts_whatever_its_window() -> None:
    driver = Driver(WindowSpec(kind="tumbling", size="1s", lateness="2s"))
    for time in (10 * S, 12 * S):
        assert driver.add(Sample(time, 1.0)) is None
    assert driver.add(Sample(10 * S, 2.0)) is None
    assert driver.add(Sample(10 * S - 1, 2.0)) == LATE


@settings(max_examples=80, deadline=None)
@given(samples)
def test_sessions_are_runs_without_a_gap_in_whatever_order_they_come(found: list[Sample]) -> None:
    driver = Driver(WindowSpec(kind="session", gap="500ms", lateness="10s"))
    for sample in found:
        assert driver.add(sample) is None
    driver.close(END)
    assert sorted(plain(driver.closed)) == cut_sessions(found, S // 2)


@settings(max_examples=60, deadline=None)
@given(samples, st.sampled_from([0, 300]))
def test_sessions_that_close_early_lose_and_repeat_nothing(found: list[Sample], lateness: int) -> None:
    driver = Driver(WindowSpec(kind="session", gap="500ms", lateness=f"{lateness}ms"))
    for sample in found:
        watermark = driver.state.newest - lateness * 1000
        touches = any(start - S // 2 < sample.time < int(pane.newest) + S // 2 for start, pane in driver.state.panes.items())
        assert driver.add(sample) == (None if touches or sample.time + S // 2 > watermark else LATE)
    driver.close(END)
    assert sorted(row for window in driver.closed for row in rows(window)) == sorted((s.time, s.value) for s in driver.taken)
    for window in driver.closed:
        stamps = [time for time, _ in rows(window)]
        assert (window.start, window.end) == (stamps[0], stamps[-1] + S // 2)
        assert all(later - earlier < S // 2 for earlier, later in pairwise(stamps))
    assert len({(window.start, window.end) for window in driver.closed}) == len(driver.closed)


@settings(max_examples=60, deadline=None)
@given(samples, st.sampled_from([(1, 1), (4, 4), (5, 2), (3, 1)]))
def test_count_windows_take_samples_in_order_of_arrival(found: list[Sample], shape: tuple[int, int]) -> None:
    size, step = shape
    driver = Driver(WindowSpec(kind="count", size=size, every=step if step < size else ""))
    for sample in found:
        assert driver.add(sample) is None
    expected = cut_counts(found, size, step)
    assert [(window.start, window.end) for window in driver.closed] == [(window.start, window.end) for window in expected]
    pairs = [list(zip(map(int, window.flat[::2]), window.flat[1::2], strict=True)) for window in driver.closed]
    assert pairs == [window.rows for window in expected]
    assert [window.index for window in driver.closed] == list(range(1, len(expected) + 1))
    shares = [sum(sample.first for sample in found[at * step : (at + 1) * step]) for at in range(len(expected))]
    assert [window.messages for window in driver.closed] == shares
    left = len(found) - step * len(expected)
    assert sum(pane.samples for pane in driver.state.panes.values()) == left


@settings(max_examples=60, deadline=None)
@given(st.lists(st.lists(samples_of_one, max_size=12), max_size=8), st.sampled_from([(1, 1), (3, 3), (4, 2), (5, 1)]))
def test_an_array_may_fill_several_count_windows_at_once(arrays: list[list[Sample]], shape: tuple[int, int]) -> None:
    size, step = shape
    driver = Driver(WindowSpec(kind="count", size=size, every=step if step < size else ""))
    for array in arrays:
        for sample in array:
            assert driver.logic.add(driver.state, (float(sample.time), sample.value), sample.first) is None
        driver.close(driver.state.newest)
    found = [sample for array in arrays for sample in array]
    expected = cut_counts(found, size, step)
    pairs = [list(zip(map(int, window.flat[::2]), window.flat[1::2], strict=True)) for window in driver.closed]
    assert pairs == [window.rows for window in expected]
    shares = [sum(sample.first for sample in found[at * step : (at + 1) * step]) for at in range(len(expected))]
    assert [window.messages for window in driver.closed] == shares
    left = driver.state.panes.values()
    assert sum(shares) + sum(pane.messages for pane in left) == sum(sample.first for sample in found)


@settings(max_examples=80, deadline=None)
@given(st.lists(st.lists(st.tuples(times, st.floats(-9, 9)), min_size=1, max_size=4), max_size=20))
def test_without_windows_each_message_is_one(messages: list[list[tuple[int, float]]]) -> None:
    driver = Driver(WindowSpec(kind="none"))
    for message in messages:
        for at, (time, value) in enumerate(message):
            assert driver.logic.add(driver.state, (float(time), value), at == 0) is None
        driver.close(driver.state.newest)
    assert [window.samples for window in driver.closed] == [len(message) for message in messages]
    assert [window.messages for window in driver.closed] == [1] * len(messages)
    assert [window.index for window in driver.closed] == list(range(1, len(messages) + 1))
    for window, message in zip(driver.closed, messages, strict=True):
        assert (window.start, window.end) == (min(message)[0], max(message)[0])
    assert driver.state.panes == {}


@settings(max_examples=40, deadline=None)
@given(samples, st.integers(0, 60), sizes)
def test_a_stored_state_goes_on_as_the_live_one(found: list[Sample], at: int, size: tuple[int, int]) -> None:
    live, stored = Driver(time_spec(*size, lateness=300)), Driver(time_spec(*size, lateness=300))
    for number, sample in enumerate(found):
        if number == at:
            stored.state = msgspec.msgpack.decode(msgspec.msgpack.encode(stored.state), type=KeyState)
        assert live.add(sample) == stored.add(sample)
    assert stored.closed == live.closed
    assert stored.state == live.state


@pytest.mark.parametrize("kind", ["tumbling", "sliding", "session"])
def test_a_full_window_refuses_and_still_closes(kind: str) -> None:
    more = {"gap": "1s"} if kind == "session" else {"size": "1s"} | ({"every": "1s"} if kind == "sliding" else {})
    driver = Driver(msgspec.convert({"kind": kind, "max_samples": 3, **more}, WindowSpec))
    reasons = [driver.add(Sample(at * 1000, 1.0)) for at in range(5)]
    assert reasons == [None, None, None, WINDOW_FULL, WINDOW_FULL]
    driver.close(END)
    assert [window.samples for window in driver.closed] == [3]


def test_times_of_today_are_exact_to_the_microsecond() -> None:
    base = 1_795_545_600 * S
    driver = Driver(WindowSpec(kind="tumbling", size="1s"))
    for time in (base, base + S - 1, base + S):
        driver.add(Sample(time, 1.0))
    driver.close(END)
    assert [(window.start, window.samples) for window in driver.closed] == [(base, 2), (base + S, 1)]
    assert [int(time) for time in driver.closed[0].flat[::2]] == [base, base + S - 1]


def test_every_key_has_a_watermark_of_its_own() -> None:
    logic = windower(WindowSpec(kind="tumbling", size="1s"))
    early, ahead = KeyState(), KeyState()
    for second in range(5):
        assert logic.add(ahead, (float((100 + second) * S), 1.0), True) is None
        assert logic.add(early, (float(second * S), 1.0), True) is None
    assert [window.start for window in logic.close("early", early, early.newest)] == [0, S, 2 * S, 3 * S]


def test_a_silent_devices_time_goes_on_with_the_clock_less_the_patience() -> None:
    state = KeyState(newest=100 * S, seen=50.0)
    assert silent_watermark(state, 50.0, lateness=2 * S, idle=3 * S) == 95 * S
    assert silent_watermark(state, 57.5, lateness=2 * S, idle=3 * S) == 102 * S + S // 2


def test_a_silent_device_closes_its_windows_and_what_comes_then_is_late() -> None:
    driver = Driver(WindowSpec(kind="tumbling", size="1s"))
    driver.add(Sample(10 * S, 1.0))
    driver.close(11 * S - 1)
    assert driver.closed == []
    driver.close(11 * S)
    assert [window.start for window in driver.closed] == [10 * S]
    assert driver.add(Sample(10 * S + 5, 1.0)) == LATE
    assert driver.add(Sample(11 * S, 1.0)) is None
