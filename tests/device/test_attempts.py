"""Failures slow down who fails, after twenty a minute; and the table of them stays small."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from skerry.device.attempts import FREE, MOST_S, STEP_S, Attempts, network


def test_twenty_failures_a_minute_cost_nothing() -> None:
    attempts = Attempts()
    assert [attempts.fail("10.0.0.7", f"d{number}", 0.0) for number in range(FREE)] == [0.0] * FREE
    assert attempts.fail("10.0.0.7", "another", 0.0) == pytest.approx(STEP_S)
    assert attempts.fail("10.0.0.8", "a-third", 0.0) == 0.0


def test_a_device_that_is_tried_from_everywhere_is_slow_too() -> None:
    attempts = Attempts()
    found = [attempts.fail(f"10.0.0.{number}", "pump-1", 0.0) for number in range(30)]
    assert found[FREE - 1] == 0.0
    assert found[-1] == pytest.approx(10 * STEP_S)


def test_it_gets_slower_up_to_a_bound_and_is_forgiven() -> None:
    attempts = Attempts()
    found = [attempts.fail("10.0.0.7", "pump-1", 0.0) for _ in range(500)]
    assert found == sorted(found)
    assert found[-1] == MOST_S
    assert attempts.fail("10.0.0.7", "pump-1", 60.0) == MOST_S, "a minute forgives twenty"
    assert attempts.fail("10.0.0.7", "pump-1", 400.0) == 0.0


def test_one_failure_each_three_seconds_is_never_slow() -> None:
    attempts = Attempts()
    assert {attempts.fail("10.0.0.7", "pump-1", 3.001 * number) for number in range(200)} == {0.0}


def test_the_table_is_bounded_and_forgets_the_least_used() -> None:
    attempts = Attempts(most=4)
    for _ in range(40):
        attempts.fail("10.0.0.7", "pump-1", 0.0)
    for number in range(3):
        attempts.fail(f"10.0.1.{number}", f"d{number}", 0.0)
    assert attempts.fail("10.0.0.7", "pump-1", 0.0) > 0
    for number in range(100):
        attempts.fail(f"10.0.2.{number}", "x" * 10_000 + str(number), 0.0)
    assert (len(attempts._sources), len(attempts._devices)) == (4, 4)
    assert max(map(len, attempts._devices)) == 64


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("10.0.0.7", "10.0.0.7"),
        ("::ffff:10.0.0.7", "10.0.0.7"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("2001:db8:1:2::", "2001:db8:1:2::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("unix", "unix"),
        ("", ""),
        ("x" * 100, "x" * 64),
    ],
)
def test_what_counts_as_one_source(source: str, expected: str) -> None:
    assert network(source) == expected


@given(st.lists(st.tuples(st.sampled_from("ab"), st.sampled_from("xy"), st.floats(0, 100)), max_size=80))
def test_a_wait_is_never_negative_nor_over_the_bound(steps: list[tuple[str, str, float]]) -> None:
    attempts, now = Attempts(), 0.0
    for source, device, passed in steps:
        now += passed
        assert 0.0 <= attempts.fail(source, device, now) <= MOST_S
