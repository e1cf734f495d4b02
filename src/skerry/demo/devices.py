"""The demo's devices: what they say and when, published over MQTT with real credentials."""

import asyncio
import json
from collections.abc import Iterator
from typing import Protocol

from skerry.core.clock import SECOND, Clock
from skerry.core.errors import SkerryError
from skerry.core.service import cancel_and_wait
from skerry.demo.computer import COMPUTER, message, readings_topic, sensors_topic
from skerry.demo.faults import Episode, FaultSchedule, RecordedTruth, Truth
from skerry.demo.pump import PumpStation, Reading
from skerry.demo.recordings import Run, labelled_episodes, replay
from skerry.mqtt import MqttClient
from skerry.runtime import ComputerReadings

PERIOD_US = SECOND // 10
PUMPS: tuple[str, ...] = PumpStation(0).devices


class Fleet(Protocol):
    """A group of devices: who they are, what is true about them, and their readings in order of time."""

    devices: tuple[str, ...]
    truth: Truth

    def readings(self) -> Iterator[Reading]:
        """Readings from the fleet's start on; `ts_us` is when each is due."""
        ...


class PumpFleet:
    """The simulated pump station, 10 readings a second and pump."""

    def __init__(self, seed: int, start_us: int) -> None:
        self.devices = PUMPS
        self._start_us = start_us
        schedule = FaultSchedule(seed, start_us, self.devices)
        self._station = PumpStation(seed, schedule=schedule)
        self.truth: Truth = schedule

    def readings(self) -> Iterator[Reading]:
        due = self._start_us
        while True:
            yield from self._station.step(due)
            due += PERIOD_US


class RecordedFleet:
    """Recordings of a directory, one after the other (those without a fault last), each as a device, `speed` times as fast."""

    def __init__(self, runs: list[Run], start_us: int, speed: float) -> None:
        self.devices = tuple(run.device for run in runs)
        self._readings: list[Reading] = []
        episodes: list[Episode] = []
        begin = start_us
        for run in sorted(runs, key=lambda run: not any(row.anomaly for row in run.rows)):
            played = list(replay(run, begin, speed))
            self._readings += played
            episodes += labelled_episodes(played)
            begin = played[-1].ts_us + SECOND
        self.truth: Truth = RecordedTruth(episodes)

    def readings(self) -> Iterator[Reading]:
        return iter(self._readings)


class Acknowledged:
    """How many messages the broker has acknowledged to the devices: what must turn up in the books."""

    def __init__(self) -> None:
        self.count = 0

    async def publish(self, client: MqttClient, topic: str, body: bytes) -> None:
        """Publish at QoS 1 and count the PUBACK; what is not acknowledged is not counted."""
        try:
            await client.publish(topic, body, qos=1)
        except SkerryError:
            return
        self.count += 1


async def publish_fleet(fleet: Fleet, clients: dict[str, MqttClient], clock: Clock, acknowledged: Acknowledged) -> None:
    """Publish a fleet's readings, each when it is due; a device that is cut off holds up no other.

    When it is cancelled, what is under way has a second to be acknowledged.
    """
    pending: set[asyncio.Task[None]] = set()
    try:
        for reading in fleet.readings():
            await asyncio.sleep(max(0.0, (reading.ts_us - clock.now()) / SECOND))
            body = json.dumps(message(reading.ts_us, reading.values)).encode()
            task = asyncio.create_task(acknowledged.publish(clients[reading.device], sensors_topic(reading.device), body))
            pending.add(task)
            task.add_done_callback(pending.discard)
        if pending:
            await asyncio.wait(pending)
    finally:
        if pending:
            await asyncio.wait(pending, timeout=1.0)
        await cancel_and_wait(*pending)


async def publish_computer(client: MqttClient, clock: Clock, latest: dict[str, float], acknowledged: Acknowledged) -> None:
    """Publish this computer's readings ten times a second; `latest` is kept up to date for the screen."""
    readings = ComputerReadings(clock.monotonic)
    due = clock.now()
    while True:
        due = max(due + PERIOD_US, clock.now() - SECOND)
        await asyncio.sleep(max(0.0, (due - clock.now()) / SECOND))
        values = readings.read()
        latest.update(values)
        body = json.dumps(message(clock.now(), values)).encode()
        await acknowledged.publish(client, readings_topic(COMPUTER), body)
