"""The promises: each figure against its formula, with counts that are given; how reports become counts; and a real node."""

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest

from skerry.core.histogram import Histogram
from skerry.node.promises import Counts, Growth, Promises, Worked, by_topic, worked
from skerry.worker import PipelineReport
from tests.fixtures.node import RunningNode, until
from tests.fixtures.raw_mqtt import RawMqtt

GAP = {"begin": "2026-01-01T00:00:00.000Z", "seconds": 90.0, "reason": "it was stopped"}
PIPELINE = """
[[pipelines]]
name = "level"
source = { topic = "devices/+/v", format = "json", values = ["x"] }
"""


def books(received: int, scored: int) -> dict[str, Any]:
    return {"received": received, "scored": scored}


def test_efficiency_and_energy_by_their_formulas() -> None:
    before = Counts(at=10, cpu_s=5, received=100, scored=90, joules=50.0, busy_s=100)
    now = Counts(at=70, cpu_s=8, received=6100, scored=6090, memory=200 << 20, devices=50, joules=250.0, busy_s=112)
    found = worked(before, now)
    assert found.scored_per_cpu_s == pytest.approx(6000 / 3)
    assert found.memory_per_device == (200 << 20) / 50
    assert found.cpu_s_per_1000 == pytest.approx(1000 * 3 / 6000)
    # a quarter of the CPU time of this machine was the node's: a quarter of the 200 J
    assert found.joules_per_1000 == pytest.approx(1000 * 200 * (3 / 12) / 6000)


def test_a_node_that_did_all_that_the_machine_did_used_all_its_energy() -> None:
    """Two counts that are not taken at the same moment must not give it more than all."""
    found = worked(Counts(joules=0.0), Counts(cpu_s=5, received=1000, joules=30.0, busy_s=4))
    assert found.joules_per_1000 == pytest.approx(30.0)


@pytest.mark.parametrize("now", [Counts(), Counts(at=60, cpu_s=3), Counts(at=60, cpu_s=3, joules=100.0, busy_s=5)])
def test_nothing_done_is_no_figure_and_no_division_by_zero(now: Counts) -> None:
    assert worked(Counts(joules=0.0 if now.joules else None), now) == Worked()


def test_energy_that_is_not_told_is_none() -> None:
    found = worked(Counts(), Counts(cpu_s=1, received=2000, scored=10))
    assert (found.joules_per_1000, found.cpu_s_per_1000) == (None, 0.5)


def test_of_fewer_than_a_thousand_messages_nothing_is_told() -> None:
    before = Counts(joules=0.0, wakeups=0)
    few = worked(before, Counts(cpu_s=1, received=999, scored=999, joules=5.0, busy_s=1, wakeups=7))
    assert (few.joules_per_1000, few.cpu_s_per_1000, few.wakeups_per_1000) == (None, None, None)
    assert few.scored_per_cpu_s == 999
    assert worked(before, Counts(cpu_s=1, received=1000, wakeups=7)).wakeups_per_1000 == 7


def test_counters_that_begin_anew_or_go_back() -> None:
    growth = Growth()
    assert growth.add({"a": 100, "b": 5}) == 0
    assert growth.add({"a": 150, "b": 5}) == 50
    assert growth.add({"a": 130}) == 50  # a worker went on from its checkpoint
    assert growth.add({"a": 160, "b": 9}) == 84
    assert growth.add({}) == 84
    assert growth.add({"a": 161, "c": 1000}) == 85


def test_what_two_pipelines_read_is_counted_once() -> None:
    topics = {"a": "devices/+/v", "b": "devices/+/v", "c": "other/#"}
    assert by_topic({"a": 100, "b": 70, "c": 5}, topics) == 105
    assert by_topic({}, topics) == 0
    assert by_topic({"gone": 3}, topics) == 3


class Rig:
    """Promises over figures that the test sets."""

    def __init__(self) -> None:
        self.reports: dict[str, PipelineReport] = {}
        self.rest = Counts()
        self.gaps: list[dict[str, Any]] = []
        self.linked = True
        self.promises = Promises(
            lambda: self.reports, lambda: {"p": "t", "q": "t"}, self._uptime, lambda: self.rest, linked=lambda: self.linked
        )

    def _uptime(self, over: int) -> dict[str, Any]:
        return {
            "since": "2026-01-01T00:00:00.000Z", "ratio": 0.5 if over else 0.9, "up_s": 9.0, "planned_s": 0.25,
            "unplanned_s": 3600.0, "starts": 2, "gaps": self.gaps,
        }  # fmt: skip

    def say(self, received: int, scored: int, cpu_s: float, **fields: Any) -> None:
        self.reports = {"p": PipelineReport("running", books=books(received, scored), **fields)}
        self.rest = msgspec.structs.replace(self.rest, cpu_s=cpu_s, at=self.rest.at + 2)
        self.promises.count()

    def sentence(self, name: str) -> str:
        return str(self.promises.status()[name]["sentence"])


@pytest.fixture
def rig() -> Rig:
    return Rig()


def test_before_anything_was_done(rig: Rig) -> None:
    found = rig.promises.status()
    assert {name: each["sentence"] for name, each in found.items() if name != "reliability"} == {
        "latency": "no event yet",
        "efficiency": "no messages scored per CPU-second in the last minute; no device yet",
        "energy": "told from 1,000 messages on; 0 so far",
        "bandwidth": "0 B in, 0 B sent up, 0 B saved",
    }
    json.dumps(found)


def test_each_says_it_in_a_sentence(rig: Rig) -> None:
    latency, age = Histogram(), Histogram()
    for value in range(1, 101):
        latency.add(value)
        age.add(1000)
    rig.rest = Counts(memory=100 << 20)
    rig.say(1000, 900, 1.0)
    rig.say(3000, 2900, 2.0, keys=4, received_bytes=3 << 20, latency=latency, age=age)
    p50, p99, one = latency.quantile(0.5), latency.quantile(0.99), age.quantile(0.5)
    assert rig.sentence("latency") == (
        f"broker to event p50 {p50:.1f} ms, p99 {p99:.1f} ms; device's time to event p50 {one:,.1f} ms, p99 {one:,.1f} ms"
    )
    assert 50 <= (p50 or 0) < 53
    assert rig.sentence("efficiency") == (
        "2,000 messages scored per CPU-second in the last minute; 25.0 MiB of memory a device, 4 devices"
    )
    assert rig.sentence("energy") == "0.5 CPU-seconds per 1,000 messages in the last minute (this machine tells no energy)"
    assert rig.sentence("bandwidth") == "3.0 MiB in, 0 B sent up, 3.0 MiB saved (100.0 %)"


def test_energy_is_said_where_it_is_told(rig: Rig) -> None:
    rig.rest = Counts(joules=10.0, busy_s=1.0)
    rig.say(0, 0, 0.0)
    rig.rest = Counts(joules=20.0, busy_s=3.0)
    rig.say(1000, 0, 1.0)
    assert rig.sentence("energy") == "5 J and 1 CPU-seconds per 1,000 messages in the last minute"


def test_what_was_sent_up_is_not_saved(rig: Rig) -> None:
    rig.rest = Counts(bytes_sent=1 << 20)
    rig.say(0, 0, 0.0, received_bytes=4 << 20)
    assert rig.sentence("bandwidth") == "4.0 MiB in, 1.0 MiB sent up, 3.0 MiB saved (75.0 %)"
    rig.rest = Counts(bytes_sent=9 << 20)
    rig.say(0, 0, 0.0, received_bytes=4 << 20)
    assert rig.promises.status()["bandwidth"]["bytes_saved"] == 0


def test_without_an_uplink_nothing_is_saved_since_nothing_leaves(rig: Rig) -> None:
    rig.linked = False
    rig.say(0, 0, 0.0, received_bytes=4 << 20)
    assert rig.sentence("bandwidth") == "4.0 MiB in; nothing leaves (no uplink)"


def test_where_few_messages_come_their_cost_is_told_since_the_start(rig: Rig) -> None:
    for number in range(100):
        rig.say(number * 20, number * 20, number * 1.0)
        if number == 49:
            assert rig.sentence("energy") == "told from 1,000 messages on; 980 so far"
    rig.rest = msgspec.structs.replace(rig.rest, wakeups=0)
    assert rig.sentence("energy") == "50 CPU-seconds per 1,000 messages since the start (this machine tells no energy)"


def test_reliability_names_the_last_gap(rig: Rig) -> None:
    before = "up 90.000 % since 2026-01-01T00:00:00.000Z (50.000 % of the last day), down 250 ms planned, 1 h 0 m unplanned"
    assert rig.sentence("reliability") == before
    rig.gaps = [GAP]
    assert rig.sentence("reliability") == f"{before}; last gap 90.0 s at 2026-01-01T00:00:00.000Z: it was stopped"
    assert rig.promises.status()["reliability"]["gaps"] == 1


def test_only_the_last_minute_counts(rig: Rig) -> None:
    for number in range(200):
        rig.say(number * 10, number * 10, 10.0 if number < 150 else 10.0 + number)
    assert len(rig.promises._counts) == 31
    lately = rig.promises.lately
    assert lately.scored_per_cpu_s == pytest.approx(300 / 30)


def publish(node: RunningNode, count: int) -> None:
    with RawMqtt(node.mqtt[1]) as device:
        for number in range(count):
            assert device.publish(b"devices/d/v", json.dumps({"x": number}).encode())


def test_a_real_node_shows_them(tmp_path: Path) -> None:
    with RunningNode(tmp_path, PIPELINE) as node:
        publish(node, 50)
        until(lambda: node.status()["promises"]["latency"]["events"] == 50, 10, "all have become events")
        until(lambda: node.status()["promises"]["efficiency"]["devices"], 10, "they are counted")
        assert node.status()["promises"]["energy"]["cpu_s_per_1000"] is None
        publish(node, 1000)
        until(lambda: node.status()["promises"]["energy"]["cpu_s_per_1000"], 30, "CPU time is counted")
        found = node.status()["promises"]
        assert found["bandwidth"]["bytes_in"] > 400
        assert found["reliability"]["ratio"] == 1.0
        assert 0 < found["latency"]["arrival_ms"]["p50"] <= found["latency"]["arrival_ms"]["p99"] < 5000
