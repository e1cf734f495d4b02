"""The row "takeover": three real nodes under load lose one, and its units give events again on the others."""

import asyncio
import time
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from bench.rows import Options, Row, Say, median_row
from tests.cluster.arrivals import EACH, Arrivals
from tests.cluster.nodes import Boxes, patiently
from tests.system.accounts import BOTH

DEVICES, RATE = 12, 120.0
STEADY_S, AFTER_S, CALM_S = 5.0, 25.0, 180.0


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
    with Arrivals(boxes[rest[0]].mqtt) as arrivals:
        time.sleep(STEADY_S)
        at = time.monotonic()
        boxes.kill(name)
        time.sleep(AFTER_S)
        took = arrivals.longest(at)
    boxes[name].start(ready=False)
    return took


def _calm(boxes: Boxes) -> str:
    """Who leads, when all are there, every node has work, and the leader's server leads the streams."""
    boxes.wait_together(seconds=CALM_S)

    def spread() -> bool:
        members: Sequence[dict[str, Any]] = boxes[boxes.names[0]].cli("cluster", "members")["members"]
        return all(each["partitions"] for each in members)

    patiently(spread, CALM_S, "every node has work")
    time.sleep(20.0)  # longer than node/cluster/gather.py looks before it moves a stream
    return boxes.leader(boxes.names[0])
