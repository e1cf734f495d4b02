"""On how many of the cluster's servers each stream is kept: three, or five where that many are there and it is asked for."""

import msgspec

from skerry.broker import WireClient, api, stream_names
from skerry.cluster import Servers
from skerry.core import log
from skerry.node.cluster.book import ServersBook
from skerry.node.cluster.reach import Reach
from skerry.node.cluster.shrink import FEW, UPDATE_S

MANY = 5
_log = log.get("cluster")


def wanted_replicas(asked: int, servers: int) -> int:
    """How many servers are to keep each stream, of so many. `asked`: `cluster.replicas`."""
    return MANY if asked >= MANY and servers >= MANY else FEW


async def rescale(client: WireClient, replicas: int) -> list[str]:
    """Have so many servers keep each stream; the names of those that were kept by another number. What is added is filled while the
    stream is used. Raises `UnavailableError`, `RejectedError`; what was done before stays."""
    changed = []
    # the log first: streams that are made meanwhile follow it
    for name in sorted(await stream_names(client)):
        config = (await api(client, f"STREAM.INFO.{name}"))["config"]
        if config["num_replicas"] != replicas:
            await api(client, f"STREAM.UPDATE.{name}", config | {"num_replicas": replicas}, timeout=UPDATE_S)
            changed.append(name)
    return changed


async def balance(there: Reach, book: ServersBook, servers: Servers, revision: int, asked: int) -> None:
    """Have as many servers keep each stream as is asked for, and take those out whose nodes are gone for good."""
    names, _ = await book.gone()
    left = [node for node, _ in servers.members if node not in names]
    replicas = wanted_replicas(asked, len(left))
    if replicas != servers.replicas and len(left) >= replicas:
        changed = await rescale(await there.own(), replicas)
        await book.put(msgspec.structs.replace(servers, replicas=replicas), revision)
        _log.info(f"{len(changed)} streams are kept by {replicas} nodes each from now on")
        return
    for node in names:
        members = tuple(each for each in servers.members if each[0] != node)
        if len(members) < servers.replicas:
            continue
        if members != servers.members:
            await there.forget(node)
            await book.put(msgspec.structs.replace(servers, members=members), revision)
            _log.info(f"the server of {node} is none of the cluster's any more")
        await book.take_back(node)
        return
