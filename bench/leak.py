"""The row "leak": what a pipeline that leaks 10 MiB a second does to another one of the same worker, until it is quarantined.

The peer is the same node with the same two pipelines, in which nothing leaks.
"""

from functools import partial
from pathlib import Path

from bench.rows import Options, Row, Say, median_row, running
from bench.run import load_for, run, windows_for
from bench.systems import Skerry

SECONDS = 18.0
"""Three times 32 MiB, and the pauses between."""
RATE = 1000.0
LEAKY = """
[[pipelines]]
name = "leaky"
source = { topic = "devices/+/vibration", format = "json", time = "ts", values = ["x"] }
window = { kind = "none" }
features = "leak:features"
rule = { field = "score", above = 1e300 }
sinks = []
resources = { memory = "32MiB" }
"""
CODE = """
import time
import numpy as np
held, last = [], time.monotonic()

def features(values, offsets):
    global last
    now = time.monotonic()
    held.append(b"x" * int({rate} * min(now - last, 0.5)))
    last = now
    return np.add.reduceat(values, offsets[:-1], axis=0)
"""


class Leaking(Skerry):
    """A node whose second pipeline keeps so many bytes a second."""

    def __init__(self, folder: Path, rate: int) -> None:
        super().__init__(folder)
        (folder / "leak.py").write_text(CODE.format(rate=rate))
        with (folder / "skerry.toml").open("a") as file:
            file.write(LEAKY)

    async def state(self) -> str:
        """Of the second pipeline."""
        rows = (await self.call("GET", "/pipelines"))["pipelines"]
        return str(next(row["state"] for row in rows if row["name"] == "leaky"))


async def leak(options: Options, say: Say) -> list[Row]:
    found: dict[int, list[float]] = {10 << 20: [], 0: []}
    missing = 0
    for _ in range(options.rounds):
        for rate, p99 in found.items():
            async with running(partial(Leaking, rate=rate)) as (system, sink):
                assert sink is not None
                assert isinstance(system, Leaking)
                windows = windows_for(RATE, max(options.seconds, SECONDS))
                each = await run(system, sink, load_for(system, RATE, windows))
                state = await system.state()
                if state != ("quarantined" if rate else "running"):
                    raise SystemExit(f"skerry: the second pipeline is {state}")
                p99.append(each.p99)
                missing += each.missing if rate else 0
                say(f"  {rate >> 20} MiB/s: p50 {each.p50:.2f} ms, p99 {each.p99:.2f} ms, {each.missing} windows missing, {state}")
    leaking, steady = found.values()
    return [
        median_row("leak", "p99 at 1,000/s beside a leak of 10 MiB/s", "ms", "ratio ≤ 2", leaking, steady),
        median_row("leak", "windows lost beside it", "", "≤ 0", [float(missing)]),
    ]


ROWS = {"leak": leak}
