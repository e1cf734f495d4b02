"""A node as a process of its own: `python -m tests.cluster.member_process NODE SERVERS FILE [key=value …]`.

Runs what it may run: each 20 ms it writes a line `partition node epoch time` for each partition that is its own, and for `leader`
while it leads. The time is the machine's monotonic clock, which is the same for all processes. What it sees is in FILE.NODE.json.
"""

import asyncio
import signal
import sys
import time
from pathlib import Path

import msgspec

from skerry import ClusterConfig, ClusterManager
from skerry.cluster import Partition

STEP_S = 0.02
PARTITIONS = [Partition(f"p/{at}") for at in range(6)]


async def work(cluster: ClusterManager, node: str, file: Path) -> None:
    held: set[str] = set()
    with file.open("a", buffering=1, encoding="ascii") as out:
        while True:
            mine = cluster.mine()
            for name in held - mine:
                cluster.let_go(name)
            held = {name for name in mine if cluster.hold(name)}
            now = time.monotonic()
            for name in [*held, *(["leader"] if cluster.leads else [])]:
                out.write(f"{name} {node} {cluster.epoch} {now:.4f}\n")
            await asyncio.sleep(STEP_S)


async def main() -> None:
    node, servers, file, *options = sys.argv[1:]
    given = dict(option.split("=", 1) for option in options)
    config = ClusterConfig(
        node, servers=tuple(servers.split(",")), user=given.get("user", "agent"), password="pw", instance=f"i-{node}",
        replicas=int(given.get("replicas", "1")), address=given.get("address", ""),
    )  # fmt: skip
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    async with ClusterManager(config, partitions=PARTITIONS) as cluster:
        task = asyncio.create_task(work(cluster, node, Path(file)))
        state = Path(f"{file}.{node}.json")
        while not stop.is_set():
            seen = {"members": cluster.members(), "leader": cluster.leader, "leads": cluster.leads, "status": cluster.status}
            seen |= {"epoch": cluster.epoch, "holders": cluster.holders(), "ready": cluster.ready.is_set(), "at": time.monotonic()}
            state.with_suffix(".new").write_bytes(msgspec.json.encode(seen))
            state.with_suffix(".new").replace(state)
            try:
                async with asyncio.timeout(0.1):
                    await stop.wait()
            except TimeoutError:
                continue
        task.cancel()
        for name in PARTITIONS:
            cluster.let_go(name.name)


if __name__ == "__main__":
    asyncio.run(main())
