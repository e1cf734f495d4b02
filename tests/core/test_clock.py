"""Time: exact to the microsecond, shifted only where it may be."""

import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from skerry.core.clock import SECOND, ManualClock, SteadyClock, SystemClock, from_number, from_rfc3339, to_rfc3339

micros = st.integers(0, 253_402_300_799_999_999)


@given(micros)
def test_rfc_3339_is_right_to_the_millisecond_and_back(moment: int) -> None:
    text = to_rfc3339(moment)
    assert len(text) == 24
    assert from_rfc3339(text) == moment - moment % 1000
    plain = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=moment)
    assert text == plain.isoformat(timespec="milliseconds").replace("+00:00", "Z")


@given(st.integers(2 * 10**11 + 1, 253_402_000_000 * SECOND - 1), st.integers(-1439, 1439))
def test_any_offset_is_read(at: int, offset: int) -> None:
    zone = timedelta(minutes=offset)
    moment = (datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=at) + zone).replace(tzinfo=None)
    text = moment.isoformat() + f"{'-' if offset < 0 else '+'}{abs(offset) // 60:02d}:{abs(offset) % 60:02d}"
    assert from_rfc3339(text) == at


@pytest.mark.parametrize("text", ["", "noon", "2026-11-24T25:00:00Z", "5", "2026-02-30"])
def test_what_is_no_time_raises_value_error(text: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - the words are the standard library's
        from_rfc3339(text)


@given(st.integers(0, 99_999_999_000_000_000))
def test_seconds_with_a_fraction_are_exact_while_a_double_is(moment: int) -> None:
    assert abs(from_number(moment / SECOND) - moment) <= (0 if moment < 2**52 else 16)


@pytest.mark.parametrize(
    ("value", "moment"),
    [
        (0, 0),
        (1.5, 1_500_000),
        (99_999_999_999, 99_999_999_999 * SECOND),
        (1e11, 10**14),
        (1_795_545_600_123, 1_795_545_600_123_000),
        (-1.0, -SECOND),
    ],
)
def test_great_numbers_are_milliseconds(value: float, moment: int) -> None:
    assert from_number(value) == moment


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_what_is_no_number_is_refused(value: float) -> None:
    with pytest.raises((ValueError, OverflowError)):
        from_number(value)


def test_the_wall_clock_is_shifted_and_the_monotonic_one_is_not(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("SKERRY_CLOCK_OFFSET", "-1h")
    clock = SystemClock()
    assert abs(clock.now() + 3600 * SECOND - time.time_ns() // 1000) < 5 * SECOND
    assert abs(clock.monotonic() - time.monotonic()) < 5
    monkeypatch.delenv("SKERRY_CLOCK_OFFSET")
    file = tmp_path / "offset"
    monkeypatch.setenv("SKERRY_CLOCK_FILE", str(file))
    fresh = SystemClock()
    for content, offset in ((None, 0), ("2h", 7200), ("rubbish", 7200), ("-30m\n", -1800), ("", 0)):
        if content is not None:
            file.write_text(content)
        fresh._looked = -1e9
        assert abs(fresh.now() - offset * SECOND - time.time_ns() // 1000) < 5 * SECOND, content


def test_a_manual_clock_moves_when_told() -> None:
    clock = ManualClock(5)
    clock.advance(2 * SECOND)
    assert (clock.now(), clock.monotonic()) == (5 + 2 * SECOND, 2.0)
    clock.set(1)
    assert (clock.now(), clock.monotonic()) == (1, 2.0)


HOUR = 3600 * SECOND


def test_a_steady_clock_follows_small_steps_and_doubts_jumps() -> None:
    clock = ManualClock(100 * HOUR)
    steady = SteadyClock(clock)
    clock.set(100 * HOUR + 59 * 60 * SECOND)
    assert (steady.now(), steady.doubts) == (clock.now(), False)
    for wrong in (1000 * HOUR, 0):
        before = steady.now()
        clock.set(wrong)
        clock.advance(10 * SECOND)
        assert (steady.now(), steady.doubts) == (before + 10 * SECOND, True)
        clock.set(before + 10 * SECOND)
        assert not steady.doubts


def test_a_jump_that_holds_for_a_day_counts() -> None:
    clock = ManualClock(100 * HOUR)
    steady = SteadyClock(clock)
    clock.set(1000 * HOUR)
    assert steady.now() == 100 * HOUR
    clock.advance(23 * HOUR)
    assert steady.now() == 123 * HOUR
    clock.advance(2 * HOUR)
    assert (steady.now(), steady.doubts) == (1025 * HOUR, False)


def test_a_steady_clock_goes_on_from_what_was_seen_before() -> None:
    clock = ManualClock(5000 * HOUR)
    assert SteadyClock(clock, 100 * HOUR).now() == 100 * HOUR
    assert SteadyClock(clock, 5000 * HOUR - 60 * SECOND).now() == 5000 * HOUR
    clock.advance(SECOND)
    assert SteadyClock(clock).monotonic() == 1.0
