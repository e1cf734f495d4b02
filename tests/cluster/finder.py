"""Announces one node by mDNS and prints what it finds: `python -m tests.cluster.finder NODE SITE ADDRESS SECONDS`."""

import asyncio
import sys
import time

import msgspec

from skerry.cluster import Found
from skerry.cluster.discovery import Discovery


async def main() -> None:
    node, site, address, seconds = sys.argv[1:]
    began, told = time.monotonic(), None
    async with Discovery(Found(node, site, "1.2.3", address), 7443) as discovery:
        while time.monotonic() - began < float(seconds):
            nodes = discovery.nodes()
            if nodes != told:
                told = nodes
                print(msgspec.json.encode({"after": time.monotonic() - began, "nodes": nodes}).decode(), flush=True)
            await asyncio.sleep(0.05)


if __name__ == "__main__":
    asyncio.run(main())
