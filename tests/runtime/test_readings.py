"""Readings of this computer: rates from counters, and the real ones."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from skerry.runtime import ComputerReadings, busy_seconds
from skerry.runtime.readings import Counters, rates, read_counters

LAST = {"cpu": 7.0, "disk": 1.0, "network": 2.0}
MIB = 2**20


def test_rates_are_differences_over_the_time_between() -> None:
    before = Counters(at=10.0, cpu_busy_s=100.0, cpu_total_s=400.0, disk_bytes=5 * MIB, network_bytes=0)
    now = Counters(at=10.5, cpu_busy_s=100.6, cpu_total_s=402.0, disk_bytes=6 * MIB, network_bytes=MIB // 4)
    assert rates(before, now, LAST) == {"cpu": pytest.approx(30.0), "disk": 2.0, "network": 0.5}


def test_where_time_stood_still_the_last_rates_hold() -> None:
    same = Counters(10.0, 100.0, 400.0, 5, 5)
    assert rates(same, same, LAST) == LAST


def test_counters_that_start_again_give_no_negative_rate() -> None:
    before, now = Counters(1.0, 50.0, 90.0, 10 * MIB, 10 * MIB), Counters(2.0, 49.0, 91.0, 0, 0)
    assert rates(before, now, LAST) == {"cpu": 0.0, "disk": 0.0, "network": 0.0}


counts = st.integers(0, 2**60)
seconds = st.floats(0, 1e9)


@given(seconds, seconds, seconds, seconds, seconds, seconds, counts, counts)
def test_cpu_is_a_percentage_and_nothing_is_negative(
    t0: float, t1: float, busy0: float, busy1: float, total0: float, total1: float, bytes0: int, bytes1: int
) -> None:
    before, now = Counters(t0, busy0, total0, bytes0, bytes0), Counters(t1, busy1, total1, bytes1, bytes1)
    found = rates(before, now, LAST)
    assert 0 <= found["cpu"] <= 100
    assert all(value >= 0 for value in found.values())


def test_real_readings_have_four_names_and_sane_values() -> None:
    readings = ComputerReadings(time.monotonic)
    end = time.monotonic() + 0.15
    while time.monotonic() < end:
        pass
    found = readings.read()
    assert list(found) == ["cpu", "memory", "disk", "network"]
    assert 0 < found["cpu"] <= 100
    assert 0 < found["memory"] <= 100
    assert found["disk"] >= 0
    assert found["network"] >= 0


def test_real_counters_only_grow() -> None:
    first, second = read_counters(1.0), read_counters(2.0)
    assert second.at == 2.0
    assert second.cpu_total_s >= first.cpu_total_s > first.cpu_busy_s > 0
    assert second.network_bytes >= first.network_bytes >= 0


def test_the_machine_has_been_busy() -> None:
    before = busy_seconds()
    assert before > 0
    end = time.process_time() + 0.1
    while time.process_time() < end:
        pass
    assert busy_seconds() > before
