"""The rows "cluster": three machines of a LAN, network namespaces with a nats-server and a node each, that lose one."""

import asyncio
import json
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from tempfile import TemporaryDirectory

from bench import boxes
from bench.rows import Options, Row, Say, median_row
from skerry import ClusterConfig, ClusterManager
from skerry.cluster import JoinPort, join
from skerry.core.clock import SystemClock
from skerry.trust import ServerTls, SigningKey, TlsFiles
from tests.cluster.machines import NAMES, Machines, takeover
from tests.fixtures.certificates import Site
from tests.fixtures.netns import lan


async def failover(options: Options, say: Say) -> list[Row]:
    """Seconds until the work of what died is run by others."""
    return await asyncio.to_thread(_failover, options.rounds, say)


def _failover(rounds: int, say: Say) -> list[Row]:
    found: dict[str, list[float]] = {"node": [], "machine": [], "server": []}
    with TemporaryDirectory(prefix="skerry-bench-") as folder, Machines(Path(folder)) as machines:
        for number in range(rounds):
            for kind in found:
                machines.all_work()
                leads = machines.server_of_bucket()
                name = leads if kind == "server" else next(each for each in NAMES if each != leads)
                took = takeover(machines, name, whole=kind != "node")
                say(f"  round {number + 1}, {kind} {name}: {took if took is None else round(took, 2)} s")
                found[kind] += [took] if took is not None else []
        wrong = machines.faults_of_order()
    if wrong:
        raise SystemExit(f"two had the same at once: {wrong}")
    return [
        median_row("failover", "work of a killed node runs elsewhere", "s", "≤ 5", found["node"]),
        median_row("failover", "that of a machine which leads nothing", "s", "≤ 5", found["machine"]),
        median_row("failover", "that of a machine whose server led the records", "s", "≤ 12", found["server"]),
    ]


async def finding(options: Options, say: Say) -> list[Row]:
    """Seconds until three nodes that start at once have heard of each other by mDNS."""
    took = [max(await asyncio.to_thread(_find)) for _ in range(options.rounds)]
    return [median_row("find", "three nodes find each other by mDNS", "s", "≤ 3", took)]


def _find() -> list[float]:
    with lan(*NAMES) as machines:
        processes = [
            subprocess.Popen(
                [*machines.inside(name), sys.executable, "-m", "tests.cluster.finder", name, "plant", "", "30"],
                stdout=subprocess.PIPE,
                text=True,
            )
            for name in NAMES
        ]
        try:
            return [_after(process) for process in processes]
        finally:
            for process in processes:
                process.kill()
                process.wait(10)
                assert process.stdout is not None
                process.stdout.close()


def _after(process: "subprocess.Popen[str]") -> float:
    """When it had found all, by its own account."""
    assert process.stdout is not None
    for line in process.stdout:
        told = json.loads(line)
        if len(told["nodes"]) == len(NAMES):
            return float(told["after"])
    raise SystemExit("the nodes did not find each other")


async def joining(options: Options, say: Say) -> list[Row]:
    """Seconds that joining with a token takes, on a node that is ready to."""
    clock = SystemClock()
    config = ClusterConfig("a", site="quay", address="127.0.0.1:7443", discovery="seeds")
    with TemporaryDirectory(prefix="skerry-bench-") as folder:
        site = Site(Path(folder) / "tls", clock.now())
        tls = ServerTls(TlsFiles("cluster", site.cert, site.key), clock)
        async with ClusterManager(config) as cluster:
            await cluster.elect_leader()
            authority = site.authority.load()
            async with JoinPort(config, cluster, authority, SigningKey.new(), lambda: tls.context, dict, clock) as port:
                await port.listen("127.0.0.1", 0)
                took = []
                for number in range(options.rounds):
                    node = ClusterConfig(f"n{number}", site="quay", address="127.0.0.1:7444", discovery="seeds")
                    began = time.monotonic()
                    await join(node, Path(folder) / node.node, token=await port.new_token(), addresses=(f"127.0.0.1:{port.port}",))
                    took.append(time.monotonic() - began)
    return [median_row("join", "join with a token: checked, certificate kept", "s", "≤ 10", took)]


ROWS: dict[str, Callable[[Options, Say], Awaitable[list[Row]]]] = {
    "failover": failover, "takeover": boxes.takeover, "find": finding, "join": joining,
}  # fmt: skip
