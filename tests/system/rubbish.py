"""A device that sends rubbish as fast as it can, and what that costs the others: times from publish to event at a subscriber."""

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from tests.fixtures.node import RunningNode, until
from tests.system.accounts import ONCE
from tests.system.fleet import Device, connected

EACH = f"""
[[pipelines]]
name = "{ONCE}"
source = {{ topic = "devices/+/numbers", time = "ts", values = ["n"] }}
"""
ROOT = Path(__file__).resolve().parents[2]


class Watch:
    """An MQTT subscriber that notes when the event of each message came."""

    def __init__(self, address: tuple[str, int]) -> None:
        self.came: dict[float, float] = {}
        self.client = connected("watch", address)
        self.client.on_message = self._on_message
        self.client.on_connect = lambda client, *_: client.subscribe("events/#", qos=0)

    def _on_message(self, client: Any, userdata: Any, message: Any) -> None:
        now = time.time()
        event = json.loads(message.payload)
        if event["key"] == "good":
            self.came[event["score"]] = now

    def latencies_ms(self, device: Device, first: int, end: int) -> list[float]:
        return [1000 * (self.came[n] - device.times[n] / 1e6) for n in range(first, end) if n in self.came]


def pace(device: Device, count: int, rate: float) -> tuple[int, int]:
    """Publish at a steady rate; the serial numbers."""
    first, began = len(device.times), time.monotonic()
    for at in range(count):
        time.sleep(max(0.0, began + at / rate - time.monotonic()))
        device.publish()
    return first, first + count


class Rubbish:
    """The process `tests.system.flood`."""

    def __init__(self, address: tuple[str, int]) -> None:
        host, port = address
        argv = [sys.executable, "-m", "tests.system.flood", host, str(port)]
        self._process = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT)

    def turn(self) -> tuple[int, int]:
        """Start it, or stop it; messages sent and acknowledged so far."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write("\n")
        self._process.stdin.flush()
        sent, acknowledged = self._process.stdout.readline().split()
        return int(sent), int(acknowledged)

    def close(self) -> None:
        self._process.communicate(timeout=10)


class Beside(msgspec.Struct):
    """99th percentiles in ms of each round, alone and beside the rubbish; messages of the good device and bad ones."""

    quiet_ms: list[float]
    loud_ms: list[float]
    good: int
    bad: int
    bad_per_s: float


def beside_rubbish(node: RunningNode, rounds: int = 3, count: int = 150, rate: float = 100.0) -> Beside:
    """One device at a steady rate, in turns alone and beside the rubbish: a machine has better and worse seconds of its own."""
    watch, good, bad = Watch(node.mqtt), Device("good", node.mqtt), Rubbish(node.mqtt)
    sent, found = 0, Beside([], [], 0, 0, 0.0)
    try:
        until(lambda: watch.client.is_connected() and good.client.is_connected(), 10, "both are connected")
        for turn in range(2 * rounds):
            loud = turn % 2
            if loud:
                bad.turn()
            first, end = pace(good, count, rate)
            if loud:
                sent, acknowledged = bad.turn()
                assert acknowledged == sent
            until(lambda: good.settle() == 0 and len(watch.came) == len(good.times), 15, "every good message became an event")
            p99 = float(np.percentile(watch.latencies_ms(good, first, end), 99))
            (found.loud_ms if loud else found.quiet_ms).append(p99)
        found.good, found.bad, found.bad_per_s = len(good.times), sent, sent / (rounds * count / rate)
    finally:
        bad.close()
        for client in (watch.client, good.client):
            client.disconnect()
            client.loop_stop()
    return found
