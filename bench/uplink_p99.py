"""The row "uplink_p99": what an uplink over a bad link does to the node's own pipeline.

The link: 300 ms each way, a twentieth of the pieces late by a retransmission, cut for 2 s of every 8. Raw data of all messages go
up. The peer is the same node without an uplink.
"""

import asyncio
from functools import partial
from pathlib import Path

from bench.rows import Options, Row, Say, median_row, running
from bench.run import load_for, run, windows_for
from bench.systems import Skerry
from skerry.core.service import cancel_and_wait
from tests.fixtures.rough_link import RoughLink
from tests.uplink.centre import Centre

RATE = 1000.0
SECONDS = 16.0
DELAY_S, LOSS = 0.3, 0.05
CUT_EVERY_S, CUT_S = 8.0, 2.0


class Sending(Skerry):
    """A node whose pipeline sends all raw data to a port; 0: nowhere."""

    def __init__(self, folder: Path, port: int) -> None:
        super().__init__(folder)
        if port:
            self.configure('sinks = ["event"]', 'sinks = ["event", { kind = "uplink", select = ["event", "raw"] }]')
            with (folder / "skerry.toml").open("a") as file:
                file.write(f'\n[uplink]\nkind = "http"\nurl = "http://127.0.0.1:{port}"\nbatch = {{ delay = "1s" }}\n')


async def _cuts(link: RoughLink) -> None:
    while True:
        await asyncio.sleep(CUT_EVERY_S - CUT_S)
        link.cut()
        await asyncio.sleep(CUT_S)
        link.mend()


async def uplink_p99(options: Options, say: Say) -> list[Row]:
    found: dict[bool, list[float]] = {True: [], False: []}
    for _ in range(options.rounds):
        for sends, p99 in found.items():
            async with Centre() as centre, RoughLink(centre.port) as link:
                link.delay, link.loss = DELAY_S, LOSS
                async with running(partial(Sending, port=link.port if sends else 0)) as (system, sink):
                    assert sink is not None
                    cutting = asyncio.create_task(_cuts(link))
                    try:
                        each = await run(system, sink, load_for(system, RATE, windows_for(RATE, max(options.seconds, SECONDS))))
                    finally:
                        await cancel_and_wait(cutting)
                    p99.append(each.p99)
                    sent = sum(map(len, centre.taken))
                    if sends and not sent:
                        raise SystemExit("skerry: nothing was sent up")
                    say(f"  {'uplink' if sends else 'none':>6}: p50 {each.p50:.2f} ms, p99 {each.p99:.2f} ms, {sent} bytes sent up")
    return [
        median_row("uplink_p99", "p99 at 1,000/s while raw data go up a bad link", "ms", "ratio ≤ 1.5", found[True], found[False])
    ]


ROWS = {"uplink_p99": uplink_p99}
