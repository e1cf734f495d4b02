"""When a version may stay and when it is taken back."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from skerry.inference.catalogue.rollout import ENOUGH_RUNS, MOST_DEATHS, NOISE_S, PROBATION_S, Counts, decide, too_slow

BEFORE = Counts(runs=1000, rows=10_000, seconds=10.0)


def test_a_version_that_does_what_the_one_before_did_stays() -> None:
    verdict = decide(Counts(runs=100, rows=1000, seconds=1.0), BEFORE)
    assert (verdict.roll_back, verdict.reason, verdict.settled) == (False, "", False)
    assert decide(Counts(), BEFORE, elapsed=PROBATION_S).settled


@pytest.mark.parametrize(
    ("now", "more", "reason"),
    [
        (Counts(runs=3, rows=30, errors=1), {}, "1 of its 3 runs failed"),
        (Counts(runs=3, rows=30, nan=2), {}, "2 of its 30 scores are not a number"),
        (Counts(runs=20, rows=200, seconds=0.7), {}, "it takes 3500 µs a row, 3.5 times the version before, allowed are 3 times"),
        (Counts(runs=20, rows=200, seconds=0.5), {"max_slowdown": 2.0}, "2.5 times the version before, allowed are 2 times"),
        (Counts(), {"deaths": MOST_DEATHS}, "workers died 2 times"),
        (Counts(), {"failure": "not ONNX"}, "it failed its trial: not ONNX"),
    ],
)
def test_a_version_that_is_worse_is_taken_back_and_says_why(now: Counts, more: dict[str, float], reason: str) -> None:
    verdict = decide(now, BEFORE, **more)  # type: ignore[arg-type]  # fields of all types by name
    assert verdict.roll_back
    assert verdict.settled
    assert reason in verdict.reason


def test_what_the_version_before_did_as_often_is_no_reason() -> None:
    before = Counts(runs=100, rows=100, errors=10, nan=10, seconds=1.0)
    assert not decide(Counts(runs=10, rows=10, errors=2, nan=2), before).roll_back
    assert "3 of its 10 runs failed" in decide(Counts(runs=10, rows=10, errors=3), before).reason
    assert "3 of its 10 scores" in decide(Counts(runs=10, rows=10, nan=3), before).reason


def test_one_death_is_not_put_down_to_the_version() -> None:
    assert not decide(Counts(), BEFORE, deaths=1).roll_back


@pytest.mark.parametrize(
    ("now", "why"),
    [
        (Counts(runs=ENOUGH_RUNS - 1, rows=190, seconds=100.0), "the first runs are slow on any engine"),
        (Counts(runs=20, rows=20, seconds=20.0), "batches of one against batches of ten"),
        (Counts(runs=100, rows=1000, seconds=100 * NOISE_S * 0.9), "noise"),
        (Counts(), "nothing has run"),
    ],
)
def test_speed_is_compared_only_where_that_says_something(now: Counts, why: str) -> None:
    quick = Counts(runs=1000, rows=10_000, seconds=0.001)
    assert too_slow(now, quick, 3.0) == "", why


def test_without_a_version_before_nothing_is_too_slow() -> None:
    assert too_slow(Counts(runs=100, rows=100, seconds=100.0), Counts(), 3.0) == ""
    assert decide(Counts(runs=1, rows=1, errors=1), Counts()).roll_back


@given(
    st.builds(Counts, *[st.integers(0, 10**6)] * 4, st.floats(0, 1e6)),
    st.builds(Counts, *[st.integers(0, 10**6)] * 4, st.floats(0, 1e6)),
)
def test_any_counts_are_judged_and_a_reason_is_there_exactly_when_it_is_taken_back(now: Counts, before: Counts) -> None:
    verdict = decide(now, before)
    assert verdict.roll_back == bool(verdict.reason)
    assert verdict.settled or not verdict.roll_back
