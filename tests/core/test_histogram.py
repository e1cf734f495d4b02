"""Latency histograms: quantiles within a bucket of the truth, whatever is added, and bounded."""

import math

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from skerry.core.histogram import PROMETHEUS_BOUNDS_S, Histogram, RecentHistogram

values = st.lists(st.floats(0, 1e7), min_size=1, max_size=50)


def filled(numbers: list[float]) -> Histogram:
    histogram = Histogram()
    for number in numbers:
        histogram.add(number)
    return histogram


@given(values, st.sampled_from([0.0, 0.5, 0.9, 0.99, 1.0]))
def test_a_quantile_is_at_most_a_bucket_above_the_true_one(numbers: list[float], part: float) -> None:
    true = sorted(numbers)[max(0, math.ceil(part * len(numbers)) - 1)]
    found = filled(numbers).quantile(part)
    assert found is not None
    assert min(true, 7e6) <= found * (1 + 1e-9)
    assert found <= max(true, 0.01) * 1.0501


@given(values, values)
def test_merged_ones_are_as_one(some: list[float], others: list[float]) -> None:
    merged, whole = filled(some), filled(some + others)
    merged.merge(filled(others))
    assert (merged.counts, merged.total) == (whole.counts, whole.total)
    assert math.isclose(merged.sum_ms, whole.sum_ms, rel_tol=1e-9)
    assert msgspec.json.decode(msgspec.json.encode(merged), type=Histogram) == merged


@given(values)
def test_bounds_are_cumulative_and_end_with_all(numbers: list[float]) -> None:
    histogram = filled(numbers)
    counts = [histogram.at_most(bound * 1000) for bound in PROMETHEUS_BOUNDS_S]
    assert counts == sorted(counts)
    assert histogram.at_most(math.inf) == histogram.total == len(numbers)
    assert all(
        count <= sum(number <= bound * 1000 * 1.051 for number in numbers)
        for count, bound in zip(counts, PROMETHEUS_BOUNDS_S, strict=True)
    )


def test_it_is_bounded_and_empty_ones_say_so() -> None:
    assert Histogram().quantile(0.5) is None
    histogram = filled([10.0**power for power in range(-300, 300)])
    assert len(histogram.counts) <= 421
    assert max(histogram.counts) == 420


def test_no_two_histograms_share_their_counts() -> None:
    one, other = Histogram(), Histogram()
    one.add(1.0)
    assert other.counts == {}


def test_recent_values_are_those_of_the_last_period_or_two() -> None:
    recent = RecentHistogram(period=10.0)
    recent.add(1.0, 100.0)
    recent.add(2.0, 109.0)
    recent.add(3.0, 111.0)
    assert recent.recent().total == 3
    recent.add(4.0, 122.0)
    assert recent.recent().total == 2
    recent.add(5.0, 500.0)
    assert (recent.recent().total, recent.all.total) == (1, 5)
