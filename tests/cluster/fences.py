"""Whether two nodes put out events of one unit at once, by the fences that the events carry: they only ever rise.

`python -m tests.cluster.fences DATA_DIR`, on the node's machine: what was found before comes in, and what is found now goes out.
"""

import asyncio
import sys
from pathlib import Path

import msgspec

from skerry.broker import WireClient, read_page
from skerry.broker.config import AGENT
from skerry.broker.kept import read_kept
from skerry.pipeline import EVENTS, EVENTS_PREFIX
from skerry.pipeline.partitions import partition_of, unit_name
from skerry.worker.outbox import FENCE

PARTITIONS = 4
PAGE = 1000


class Found(msgspec.Struct):
    """What the event log told so far.

    Attributes:
        after: how far it was read.
        fences: the highest of each unit.
        owners: how often a unit had a new one.
        wrong: events of an owner whose unit another had already.
    """

    after: int = 0
    fences: dict[str, int] = {}
    owners: int = 0
    wrong: list[str] = []

    def take(self, unit: str, fence: int, identity: str) -> None:
        """The next event of the log."""
        last = self.fences.get(unit, 0)
        if fence < last:
            self.wrong.append(f"{unit}: event {identity} of owner {fence} after one of owner {last}")
        elif fence > last:
            self.fences[unit] = fence
            self.owners += 1


class _Event(msgspec.Struct):
    id: str
    pipeline: str
    key: str


async def read_on(client: WireClient, found: Found) -> None:
    """All events since."""
    while page := await read_page(client, EVENTS, f"{EVENTS_PREFIX}>", found.after, PAGE):
        found.after = page[-1].sequence
        for stored in page:
            event = msgspec.json.decode(stored.payload, type=_Event)
            unit = unit_name(event.pipeline, partition_of(event.key, PARTITIONS))
            found.take(unit, int(stored.headers.get(FENCE.lower(), 0)), event.id)


async def main(folder: Path) -> None:
    found = msgspec.json.decode(sys.stdin.read(), type=Found)
    kept = read_kept(folder / "broker")
    client = await WireClient.connect("127.0.0.1", kept.client_port, AGENT, kept.agent, "fences")
    try:
        await read_on(client, found)
    finally:
        client.close()
    sys.stdout.buffer.write(msgspec.json.encode(found))


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1])))
