"""This computer as a device: the shape of its messages, and the simulated computers that its model learns from."""

import json
from statistics import fmean

import pytest

from skerry.core.clock import from_number
from skerry.demo.computer import COMPUTER, COMPUTER_VALUES, OVERLOAD, in_words, message, readings_topic, sensors_topic
from skerry.demo.faults import NORMAL
from skerry.demo.workload import CORES, workload


def test_a_message_carries_its_time_to_the_microsecond_and_three_decimals() -> None:
    sent = json.loads(json.dumps(message(1_700_000_000_123_457, {"cpu": 12.34567, "memory": 40.0})))
    assert sent == {"ts": 1_700_000_000.123457, "cpu": 12.346, "memory": 40.0}
    assert from_number(sent["ts"]) == 1_700_000_000_123_457


def test_topics_name_the_device_at_the_second_level() -> None:
    assert sensors_topic("pump-2") == "devices/pump-2/sensors"
    assert readings_topic() == f"devices/{COMPUTER}/readings"


def test_readings_in_words_have_their_units() -> None:
    words = in_words({"cpu": 12.4, "memory": 40.0, "disk": 0.25, "network": 0.0})
    assert words == "cpu 12 % · memory 40 % · disk 0.2 MiB/s · network 0.0 MiB/s"
    assert in_words({"cpu": 3.0}) == "cpu 3 %"


@pytest.mark.parametrize("cores", CORES)
def test_simulated_load_is_deterministic_and_in_range(cores: int) -> None:
    samples = list(workload(5, cores, 2_000))
    assert samples == list(workload(5, cores, 2_000))
    assert all(tuple(sample.values) == COMPUTER_VALUES for sample in samples)
    assert all(0 <= sample.values[name] <= 100 for sample in samples for name in ("cpu", "memory"))
    assert all(sample.values[name] >= 0 for sample in samples for name in ("disk", "network"))
    busy = [sample.values["cpu"] for sample in samples if sample.label == OVERLOAD]
    calm = [sample.values["cpu"] for sample in samples if sample.label == NORMAL]
    assert fmean(busy) > 85
    assert fmean(calm) < 60


def test_one_core_counts_in_ticks_of_ten_percent() -> None:
    seen = {round(sample.values["cpu"], 6) for sample in workload(5, 1, 500)}
    assert seen <= {10.0 * ticks for ticks in range(11)}
    assert len({sample.values["cpu"] for sample in workload(5, 64, 500)}) > 50
