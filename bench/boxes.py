"""The row "takeover": three real nodes under load lose one, and its units give events again on the others."""

import asyncio
import itertools
import json
import time
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from bench.rows import Options, Row, Say, median_row
from tests.cluster.nodes import Boxes, patiently
from tests.fixtures.node import until
from tests.system.accounts import BOTH
from tests.system.fleet import connected

EACH = """
[[pipelines]]
name = "each"
source = { topic = "devices/+/numbers", time = "ts", values = ["n"], max_future = "10m" }
window = { kind = "none" }
"""
DEVICES, RATE = 12, 120.0
STEADY_S, AFTER_S, CALM_S = 5.0, 25.0, 180.0


class Arrivals:
    """When events of each device came, at a subscriber of one node, at QoS 0: that needs no consumer to be elected."""

    def __init__(self, address: tuple[str, int]) -> None:
        self._times: dict[str, list[float]] = defaultdict(list)
        self._client = connected("bench-watch", address)
        self._client.on_connect = lambda client, *_: client.subscribe("events/each/#", qos=0)
        self._client.on_message = self._take
        until(self._client.is_connected, 30, "the watch is connected")
        self._client.subscribe("events/each/#", qos=0)

    def _take(self, client: Any, userdata: Any, message: Any) -> None:
        self._times[json.loads(message.payload)["key"]].append(time.monotonic())

    def longest(self, begin: float) -> float:
        """The longest that any device was without an event, from a moment on, until now."""
        found = []
        for times in list(self._times.values()):
            later = [at for at in times.copy() if at >= begin - 1.0] + [time.monotonic()]
            found.append(max(after - before for before, after in itertools.pairwise(later)))
        return max(found)

    def close(self) -> None:
        self._client.disconnect()
        self._client.loop_stop()


async def takeover(options: Options, say: Say) -> list[Row]:
    """Seconds without events of a device whose unit ran on the node that was killed."""
    return await asyncio.to_thread(_takeover, options.rounds, say)


def _takeover(rounds: int, say: Say) -> list[Row]:
    found: dict[str, list[float]] = {"member": [], "leader": []}
    with (
        TemporaryDirectory(prefix="skerry-bench-") as folder,
        Boxes(Path(folder), pipelines=BOTH + EACH) as boxes,
        boxes.fleet(DEVICES, RATE) as fleet,
    ):
        for number in range(rounds):
            for kind, took in found.items():
                took.append(_one(boxes, kind))
                say(f"  round {number + 1}, {kind}: {took[-1]:.2f} s")
        account = boxes.settle(fleet)
    say(f"  {account.acknowledged} acknowledged messages, {account.windows} windows, each whole and there once")
    return [
        median_row("takeover", "events of the units of a killed node, again", "s", "≤ 5", found["member"]),
        median_row("takeover", "the same, of the node that leads", "s", "≤ 12", found["leader"]),
    ]


def _one(boxes: Boxes, kind: str) -> float:
    """Kill one, and let it come again."""
    leader = _calm(boxes)
    name = leader if kind == "leader" else next(each for each in boxes.names if each != leader)
    rest = [each for each in boxes.names if each != name]
    arrivals = Arrivals(boxes[rest[0]].mqtt)
    try:
        time.sleep(STEADY_S)
        at = time.monotonic()
        boxes.kill(name)
        time.sleep(AFTER_S)
        return arrivals.longest(at)
    finally:
        arrivals.close()
        boxes[name].start(ready=False)


def _calm(boxes: Boxes) -> str:
    """Who leads, when all are there, every node has work, and the leader's server leads the streams."""
    boxes.wait_together(seconds=CALM_S)

    def spread() -> bool:
        members: Sequence[dict[str, Any]] = boxes[boxes.names[0]].cli("cluster", "members")["members"]
        return all(each["partitions"] for each in members)

    patiently(spread, CALM_S, "every node has work")
    time.sleep(20.0)  # longer than node/cluster/gather.py looks before it moves a stream
    return boxes.leader(boxes.names[0])
