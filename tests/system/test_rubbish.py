"""A device that sends rubbish as fast as it can: the others' events come all the same, and soon."""

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

from tests.fixtures.node import RunningNode, until
from tests.system.accounts import ONCE
from tests.system.fleet import Device, connected
from tests.system.flood import TOPIC

EACH = f"""
[[pipelines]]
name = "{ONCE}"
source = {{ topic = "devices/+/numbers", time = "ts", values = ["n"] }}
"""
ROOT = Path(__file__).resolve().parents[2]
BOUND = 5.0
SLACK_MS = 20.0


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


def test_rubbish_at_full_speed_does_not_keep_the_others_waiting(tmp_path: Path) -> None:
    with RunningNode(tmp_path, EACH) as node:
        watch, good, bad = Watch(node.mqtt), Device("good", node.mqtt), Rubbish(node.mqtt)
        until(lambda: watch.client.is_connected() and good.client.is_connected(), 10, "both are connected")
        spans: tuple[list[float], list[float]] = [], []
        sent = 0
        for turn in range(6):
            # in turns, since a machine has better and worse seconds of its own
            loud = turn % 2
            if loud:
                bad.turn()
            first, end = pace(good, 150, 100)
            if loud:
                sent, acknowledged = bad.turn()
                assert acknowledged == sent
            until(lambda: good.settle() == 0 and len(watch.came) == len(good.times), 15, "every good message became an event")
            spans[loud].append(float(np.percentile(watch.latencies_ms(good, first, end), 99)))
        quiet_ms, loud_ms = float(np.median(spans[0])), float(np.median(spans[1]))
        print(f"p99, publish to event at a subscriber: {quiet_ms:.1f} ms, {loud_ms:.1f} ms beside {sent / 4.5:.0f} bad messages/s")

        until(lambda: node.pipeline(ONCE)["ledger"]["received"] == 900 + sent, 20, "all is received")
        books = node.pipeline(ONCE)["ledger"]
        assert (books["scored"], books["difference"]) == (900, 0)
        assert sum(books["dead_letters"].values()) == sent > 1000
        assert set(books["dead_letters"]) == {"undecodable", "wrong-shape"}
        letters = node.deadletters(ONCE)
        assert len(letters) == sent
        assert {letter["topic"] for letter in letters} == {TOPIC}
        assert loud_ms <= BOUND * quiet_ms + SLACK_MS
        bad.close()
        for client in (watch.client, good.client):
            client.disconnect()
            client.loop_stop()
