"""The demo's devices: readings when they are due, counts of what was acknowledged, recordings one after the other."""

import asyncio
import json
from itertools import islice
from typing import Any

import pytest

from skerry.core.clock import SECOND, SystemClock
from skerry.core.errors import UnavailableError
from skerry.core.service import cancel_and_wait
from skerry.demo.devices import PERIOD_US, PUMPS, Acknowledged, PumpFleet, RecordedFleet, publish_computer, publish_fleet
from skerry.demo.pump import Reading
from skerry.demo.recordings import RIG_VALUES, Row, Run

START = 1_700_000_000 * SECOND


class Client:
    """Takes what is published; cut off, it waits for ever; broken, it raises."""

    def __init__(self, *, cut: bool = False, broken: bool = False) -> None:
        self.got: list[tuple[str, dict[str, Any], int]] = []
        self._cut = cut
        self._broken = broken

    async def publish(self, topic: str, payload: bytes, qos: int = 0, retain: bool = False) -> None:
        assert qos == 1
        if self._cut:
            await asyncio.sleep(3600)
        if self._broken:
            raise UnavailableError("no broker")
        self.got.append((topic, json.loads(payload), SystemClock().now()))


def recorded(name: str, seconds: int, faulty: range = range(0)) -> Run:
    rows = tuple(Row(START + at * SECOND, (float(at),) * len(RIG_VALUES), at in faulty) for at in range(seconds))
    return Run(name, rows)


def test_pumps_speak_ten_times_a_second_and_the_same_for_a_seed() -> None:
    readings = list(islice(PumpFleet(7, START).readings(), 300))
    assert readings == list(islice(PumpFleet(7, START).readings(), 300))
    assert readings != list(islice(PumpFleet(8, START).readings(), 300))
    assert {reading.device for reading in readings} <= set(PUMPS)
    times = [reading.ts_us for reading in readings]
    assert times == sorted(times)
    assert times[0] == START
    assert all((time - START) % PERIOD_US == 0 for time in times)


def test_recordings_are_played_one_after_the_other_those_with_faults_first() -> None:
    calm, bad, worse = (
        recorded("anomaly-free/0", 20),
        recorded("valve1/0", 30, range(10, 15)),
        recorded("valve1/1", 10, range(5, 10)),
    )
    fleet = RecordedFleet([calm, bad, worse], START, 10.0)
    assert fleet.devices == ("anomaly-free-0", "valve1-0", "valve1-1")
    readings = list(fleet.readings())
    assert [reading.device for reading in readings] == ["valve1-0"] * 30 + ["valve1-1"] * 10 + ["anomaly-free-0"] * 20
    times = [reading.ts_us for reading in readings]
    assert times == sorted(times)
    assert (times[0], times[10] - times[0]) == (START, SECOND)
    assert list(fleet.readings()) == readings
    whole = (START, times[-1] + SECOND)
    found = [(each.device, each.fault) for device in fleet.devices for each in fleet.truth.episodes(device, *whole)]
    assert found == [("valve1-0", "valve1"), ("valve1-1", "valve1")]


class Few:
    """A fleet of a few readings a hundredth of a second apart."""

    def __init__(self, count: int, start: int, devices: tuple[str, ...] = ("a", "b")) -> None:
        self.devices = devices
        self.truth: Any = None
        self._readings = [
            Reading(devices[at % len(devices)], start + at * 10_000, {"x": float(at)}, "normal") for at in range(count)
        ]

    def readings(self) -> Any:
        return iter(self._readings)


@pytest.mark.asyncio
async def test_each_reading_goes_out_when_it_is_due_and_is_counted() -> None:
    clock, count = SystemClock(), Acknowledged()
    clients: dict[str, Any] = {"a": Client(), "b": Client()}
    start = clock.now() + 50_000
    await publish_fleet(Few(20, start), clients, clock, count)
    assert count.count == 20
    assert [body["x"] for _, body, _ in clients["a"].got] == [float(at) for at in range(0, 20, 2)]
    for topic, body, sent in clients["b"].got:
        assert topic == "devices/b/sensors"
        assert sent >= round(body["ts"] * 1e6)


@pytest.mark.asyncio
async def test_a_device_that_is_cut_off_holds_up_no_other_and_is_not_counted() -> None:
    clock, count = SystemClock(), Acknowledged()
    clients: dict[str, Any] = {"a": Client(cut=True), "b": Client(), "c": Client(broken=True)}
    task = asyncio.create_task(publish_fleet(Few(30, clock.now(), ("a", "b", "c")), clients, clock, count))
    await asyncio.sleep(0.6)
    assert len(clients["b"].got) == 10
    assert count.count == 10
    assert not task.done(), "it waits for the one that is cut off"
    await cancel_and_wait(task)


@pytest.mark.asyncio
async def test_this_computer_speaks_ten_times_a_second() -> None:
    client, latest, count = Client(), dict[str, float](), Acknowledged()
    given: Any = client
    task = asyncio.create_task(publish_computer(given, SystemClock(), latest, count))
    try:
        await asyncio.sleep(1.05)
    finally:
        await cancel_and_wait(task)
    assert 6 <= len(client.got) <= 11
    assert count.count == len(client.got)
    assert set(latest) == {"cpu", "memory", "disk", "network"}
    assert all(value >= 0 for value in latest.values())
    assert 0 < latest["memory"] <= 100


@pytest.mark.asyncio
async def test_pending_publishes_end_with_the_fleet() -> None:
    """No task is left behind when the fleet's publishing is cancelled."""
    clients: dict[str, Any] = {"a": Client(cut=True), "b": Client(cut=True)}
    clock = SystemClock()
    task = asyncio.create_task(publish_fleet(Few(10, clock.now()), clients, clock, Acknowledged()))
    await asyncio.sleep(0.3)
    await cancel_and_wait(task)
    await asyncio.sleep(0.05)
    assert asyncio.all_tasks() == {asyncio.current_task()}
