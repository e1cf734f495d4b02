"""What could hinder a node in its cluster, for `skerry doctor`: its certificate, members that do not answer, clocks that differ."""

import asyncio
from collections.abc import Iterable, Iterator
from typing import Any, Literal

from skerry.cluster import EdgeNode, NodeStatus, clock_of, has_joined
from skerry.config import NodeConfig
from skerry.core.clock import Clock
from skerry.core.errors import SkerryError
from skerry.node.cluster.founding import cluster_folder, cluster_tls
from skerry.node.cluster.known import read_known
from skerry.trust import TlsFiles

ASK_S = 3.0
CLUSTER = "cluster"
Found = tuple[str, Literal["ok", "warn", "fail"], str, str]
"""What was looked at, how it is, in words, and the mend."""


def certificates(config: NodeConfig) -> dict[str, TlsFiles]:
    """The certificate that members know this node by, where it has one."""
    files = cluster_tls(config)
    return {CLUSTER: files} if config.cluster.enabled and files.cert.is_file() else {}


def examine_cluster(config: NodeConfig, status: dict[str, Any] | None, clock: Clock) -> Iterator[Found]:
    """Each member, and the cluster as the running node sees it; nothing where it is in none. Changes nothing."""
    if not config.cluster.enabled:
        return
    row = (status or {}).get("cluster") or {}
    if row.get("no_quorum_since"):
        yield CLUSTER, "warn", row["sentence"], "start the other nodes, and see whether they reach each other"
    elif row:
        yield CLUSTER, "ok", row["sentence"], ""
    folder = cluster_folder(config)
    try:
        joined = has_joined(folder)
    except SkerryError as error:
        yield CLUSTER, "fail", str(error), error.mend
        return
    if joined is None:
        yield CLUSTER, "ok", "it has joined no other: the next start makes a cluster of one", ""
        return
    others = [node for node in read_known(folder) or joined.members if node.id != config.node.name]
    yield from asyncio.run(_ask(others, clock))


async def _ask(members: Iterable[EdgeNode], clock: Clock) -> list[Found]:
    return await asyncio.gather(*(_ask_one(node, clock) for node in members))


async def _ask_one(node: EdgeNode, clock: Clock) -> Found:
    check = f"member {node.id}"
    mend = "is it running, and is the way to its cluster.listen open?"
    if not node.address:
        return check, "ok", f"{NodeStatus.JOINING}: it has no address", ""
    try:
        async with asyncio.timeout(ASK_S):
            skew = await clock_of(node.address, clock)
    except TimeoutError:
        return check, "warn", f"{node.address} does not answer within {ASK_S:g} s", mend
    except SkerryError as error:
        return check, "warn", f"{node.address} does not answer: {error.message}", mend
    if skew:
        return check, "warn", f"{node.address}: {skew[0]}", "have NTP set the clocks of both"
    return check, "ok", f"answers at {node.address}, its clock is right", ""
