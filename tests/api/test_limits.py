"""Token buckets: never more than the rate and the burst allow, whoever asks, in a bounded table."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from skerry.api.limits import Buckets, source_of
from skerry.core.clock import SECOND, ManualClock


def test_a_burst_and_then_the_rate() -> None:
    clock = ManualClock()
    buckets = Buckets(rate=2.0, burst=3.0, clock=clock)
    assert [buckets.take("a") for _ in range(4)] == [0.0, 0.0, 0.0, 0.5]
    clock.advance(SECOND // 4)
    assert buckets.take("a") == pytest.approx(0.25)
    clock.advance(SECOND // 4)
    assert [buckets.take("a"), buckets.take("a")] == [0.0, pytest.approx(0.5)]
    assert buckets.take("b") == 0.0
    clock.advance(1000 * SECOND)
    assert [buckets.take("a") for _ in range(4)] == [0.0, 0.0, 0.0, 0.5]


def test_asking_while_there_is_none_costs_nothing() -> None:
    clock = ManualClock()
    buckets = Buckets(rate=1.0, burst=1.0, clock=clock)
    assert buckets.take("a") == 0.0
    assert {buckets.take("a") for _ in range(100)} == {1.0}
    clock.advance(SECOND)
    assert buckets.take("a") == 0.0


def test_a_clock_that_is_set_changes_nothing() -> None:
    clock = ManualClock(10**15)
    buckets = Buckets(rate=1.0, burst=1.0, clock=clock)
    buckets.take("a")
    clock.set(0)
    assert buckets.take("a") == 1.0


def test_the_table_is_bounded_and_the_silent_go_first() -> None:
    buckets = Buckets(rate=0.001, burst=1.0, clock=ManualClock(), most=3)
    assert [buckets.take(source) for source in "abc"] == [0.0] * 3
    assert buckets.take("a") > 0
    assert buckets.take("d") == 0.0
    assert len(buckets) == 3
    assert buckets.take("a") > 0  # still known
    assert buckets.take("b") == 0.0  # forgotten
    for number in range(10_000):
        buckets.take(str(number))
    assert len(buckets) == 3


@given(
    rate=st.floats(0.1, 100),
    burst=st.integers(1, 20),
    steps=st.lists(st.tuples(st.integers(0, 5 * SECOND), st.sampled_from("ab")), max_size=100),
)
def test_no_more_than_burst_and_rate_allow(rate: float, burst: int, steps: list[tuple[int, str]]) -> None:
    clock = ManualClock()
    buckets = Buckets(rate, burst, clock)
    granted = {"a": 0, "b": 0}
    for pause, source in steps:
        clock.advance(pause)
        wait = buckets.take(source)
        granted[source] += not wait
        assert wait <= 1 / rate
        assert granted[source] <= burst + rate * clock.monotonic() + 1e-6


@pytest.mark.parametrize(
    ("address", "source"),
    [
        ("192.0.2.7", "192.0.2.7"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("2001:db8:1:2::ffff", "2001:db8:1:2::/64"),
        ("2001:db8:1:3::1", "2001:db8:1:3::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("::ffff:192.0.2.7", "192.0.2.7"),
        ("::1", "::/64"),
        ("no address", "no address"),
        ("x" * 100, "x" * 64),
    ],
)
def test_what_is_one_source(address: str, source: str) -> None:
    assert source_of(address) == source
