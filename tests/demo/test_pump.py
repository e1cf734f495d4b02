"""The simulated station: deterministic, physically sane, with faults that show where they should."""

import json
from itertools import pairwise
from statistics import fmean, pstdev

import pytest

from skerry.demo.faults import NORMAL, Episode, FaultSchedule
from skerry.demo.pump import PERIOD_US, PUMP_VALUES, Pump, PumpStation, Reading

START = 1_700_000_000_000_000
SECOND = 1_000_000


def run(station: PumpStation, seconds: float, start: int = START) -> list[Reading]:
    steps = range(round(seconds * SECOND / PERIOD_US))
    return [reading for number in steps for reading in station.step(start + number * PERIOD_US)]


def with_fault(fault: str, seed: int = 11) -> tuple[dict[str, float], dict[str, float]]:
    """Means of every sensor over the same 5 s of two equal pumps: one that is well, one with a full fault."""
    episode = Episode("pump-1", fault, START, START + 20 * SECOND, 1.0, SECOND)
    means = []
    for active in (None, episode):
        pump = Pump("pump-1", seed)
        steps = [pump.step(START + number * PERIOD_US, 0.1, active) for number in range(100)]
        means.append(mean([reading for reading in steps[50:] if reading is not None]))
    return means[0], means[1]


def mean(readings: list[Reading]) -> dict[str, float]:
    return {name: fmean(reading.values[name] for reading in readings) for name in PUMP_VALUES}


def test_same_seed_and_times_give_the_same_readings() -> None:
    assert run(PumpStation(7), 12) == run(PumpStation(7), 12)
    assert run(PumpStation(7), 2) != run(PumpStation(8), 2)


def test_a_reading_has_all_eight_sensors_and_the_time_it_was_given() -> None:
    first = PumpStation(7).step(START)
    assert [reading.device for reading in first] == ["pump-1", "pump-2", "pump-3"]
    assert {reading.ts_us for reading in first} == {START}
    assert all(tuple(reading.values) == PUMP_VALUES for reading in first)
    assert len(json.dumps(first[0].values)) < 200


def test_pumps_are_not_copies_of_each_other() -> None:
    flows = {reading.device: reading.values["flow"] for reading in PumpStation(7).step(START)}
    assert len(set(flows.values())) == 3


def test_values_stay_where_a_pump_of_this_size_has_them() -> None:
    limits = {
        "flow": (20, 95), "pressure_in": (1.2, 1.9), "pressure_out": (2.5, 5.5), "current": (6, 20),
        "speed": (2400, 2850), "vibration": (0.5, 6.5), "temperature": (14, 30), "motor_temperature": (30, 75),
    }  # fmt: skip
    for reading in run(PumpStation(21), 120):
        for name, (low, high) in limits.items():
            assert low < reading.values[name] < high, (name, reading)


def test_about_one_sample_in_sixty_drops_out_and_a_window_keeps_seven_or_more_nearly_always() -> None:
    station = PumpStation(3)
    readings = run(station, 300)
    lost = 1 - len(readings) / (300 * 10 * 3)
    assert 0.008 < lost < 0.03
    windows: dict[tuple[str, int], int] = {}
    for reading in readings:
        at = (reading.device, reading.ts_us // SECOND)
        windows[at] = windows.get(at, 0) + 1
    assert min(windows.values()) >= 5
    assert sum(count >= 7 for count in windows.values()) / len(windows) > 0.99


def test_the_truth_rides_with_each_reading_and_can_be_asked_for() -> None:
    station = PumpStation(3)
    assert station.truth("pump-1", START) == NORMAL
    readings = run(station, 30)
    assert all(reading.fault == station.truth(reading.device, reading.ts_us) for reading in readings)
    faulty = [reading for reading in readings if reading.fault != NORMAL]
    assert faulty[0].ts_us - START == 3 * SECOND
    assert 0.15 < len(faulty) / len(readings) < 0.4


def test_a_schedule_of_ones_own_is_followed() -> None:
    schedule = FaultSchedule(99, START + 60 * SECOND, ("pump-1", "pump-2", "pump-3"))
    readings = run(PumpStation(3, schedule=schedule), 30)
    assert {reading.fault for reading in readings} == {NORMAL}


def test_a_closing_valve_lowers_flow_and_raises_pressure() -> None:
    well, ill = with_fault("valve")
    assert ill["flow"] < 0.8 * well["flow"]
    assert ill["pressure_out"] > well["pressure_out"] + 0.2
    assert ill["current"] < well["current"]


def test_a_leak_raises_flow_and_lowers_pressure() -> None:
    well, ill = with_fault("leak")
    assert ill["flow"] > 1.1 * well["flow"]
    assert ill["pressure_out"] < well["pressure_out"] - 0.2
    assert ill["pressure_in"] < well["pressure_in"]


def test_imbalance_shakes_and_leaves_the_water_alone() -> None:
    well, ill = with_fault("imbalance")
    assert ill["vibration"] > well["vibration"] + 1.5
    assert ill["flow"] == pytest.approx(well["flow"], rel=1e-9)


def test_flow_follows_a_sudden_fault_with_inertia() -> None:
    pump = Pump("pump-1", 5)
    episode = Episode("pump-1", "valve", START, START + 10 * SECOND, 1.0, 0)
    flows = [
        reading.values["flow"]
        for number in range(30)
        if (reading := pump.step(START + number * PERIOD_US, 0.1, episode)) is not None
    ]
    # time constant 0.25 s: a third of the way after one step, all but 2 % after one second
    assert 0.55 * flows[0] < flows[-1] < 0.8 * flows[0]
    assert flows[1] > flows[-1] + 0.4 * (flows[0] - flows[-1])
    assert pstdev(flows[15:]) < 1.5


def test_temperatures_are_slow() -> None:
    readings = [reading for reading in run(PumpStation(4), 20) if reading.device == "pump-1"]
    motor = [reading.values["motor_temperature"] for reading in readings]
    assert abs(fmean(motor[-10:]) - fmean(motor[:10])) < 4.0
    assert max(abs(b - a) for a, b in pairwise(motor)) < 0.6


def test_a_long_pause_between_two_steps_does_no_harm() -> None:
    station = PumpStation(4)
    run(station, 5)
    later = run(station, 5, START + 3_600 * SECOND)
    assert all(10 < reading.values["flow"] < 100 for reading in later)
