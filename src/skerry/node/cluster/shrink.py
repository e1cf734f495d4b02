"""From three servers to one: a node keeps the log alone, since too few are left for a majority that survives anybody.

While devices go on, each stream comes to be kept and led by the keeper's server alone. Then all nodes end their work and agree, the
streams are frozen (no message is so short that it is taken), copied, and given to a server alone, as a promotion does it. What was
acknowledged is in the copy: nothing was, after the streams were frozen. Until the keeper says `promoted` of itself the streams can
be thawed again.
"""

import asyncio
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec

from skerry.broker import WireClient, api, save_streams, stream_names, stream_state
from skerry.cluster import Servers
from skerry.core import log
from skerry.core.errors import RejectedError, UnavailableError

TRIES, LOOK_S = 120, 0.25
PATIENCE = 20
"""Looks after which a stream that does not come is held up by readers of a server that is gone."""
FEW, UPDATE_S = 3, 30.0
FROZEN = 1
"""Longest message in bytes of a stream that takes none: what is empty is no message of ours."""
_log = log.get("cluster")


class Fewer(msgspec.Struct, frozen=True):
    """The step to one server, as it stands in the book.

    Attributes:
        keeper: who keeps the log.
        turn: later than that of the servers that there are.
        others: nodes that have to end their work first.
        longest: of each stream, the longest message before it was frozen.
    """

    keeper: str
    turn: int
    others: tuple[str, ...]
    longest: dict[str, int]


def too_few(servers: Servers, gone: list[str]) -> bool:
    """Whether nodes were taken out until less than three servers are left."""
    return bool(gone) and len([node for node, _ in servers.members if node not in gone]) < FEW <= len(servers.members)


async def to_one(client: WireClient, server: str) -> dict[str, int]:
    """Have this server alone keep each stream and lead it, while they are used; the longest message of each.

    Can be done again. Raises `UnavailableError`, `RejectedError`; what was done before stays, and is whole.
    """
    longest = {}
    for name in sorted(await stream_names(client)):
        for look in range(1, TRIES + 1):
            config = await _step_to_one(client, name, server)
            if config is not None:
                longest[name] = int(config["max_msg_size"])
                break
            if look % PATIENCE == 0:
                await _forget_lost_readers(client, name)
            await asyncio.sleep(LOOK_S)
        else:
            raise UnavailableError(f"{name} does not come to {server}", where="cluster", mend="see whether all servers are there")
    return longest


async def _step_to_one(client: WireClient, name: str, server: str) -> dict[str, Any] | None:
    """The stream's configuration where it is done, else None: to be asked again."""
    info = await api(client, f"STREAM.INFO.{name}")
    config, group = info["config"], info.get("cluster") or {}
    others = group.get("replicas") or []
    if config["num_replicas"] == 1:
        if group.get("leader") == server and not others:
            return dict(config)
        if not others and group.get("leader"):  # it was given to another keeper before
            await api(client, f"STREAM.UPDATE.{name}", config | {"num_replicas": FEW}, timeout=UPDATE_S)
        return None
    if group.get("leader") == server:
        # the one that leads stays
        await api(client, f"STREAM.UPDATE.{name}", config | {"num_replicas": 1}, timeout=UPDATE_S)
    elif group.get("leader") and any(each["name"] == server and each.get("current") for each in others):
        await api(client, f"STREAM.LEADER.STEPDOWN.{name}", {"placement": {"preferred": server}})
    return None


async def _forget_lost_readers(client: WireClient, name: str) -> None:
    """Take away a stream's consumers that no server there has: it waits for them to move, and who had them is out for good."""
    lost = (await api(client, f"CONSUMER.LIST.{name}", {})).get("missing") or []
    for consumer in lost:
        with suppress(UnavailableError):  # it is their own server that would answer
            await api(client, f"CONSUMER.DELETE.{name}.{consumer}", timeout=LOOK_S)


async def set_longest(client: WireClient, longest: dict[str, int], frozen: bool) -> None:
    """Freeze the streams, so that they take nothing, or thaw them. Raises `UnavailableError`, `RejectedError`."""
    # the log last when it is thawed, and first when it is frozen: then no other stream lacks what it has
    for name in sorted(longest.keys() & set(await stream_names(client)), reverse=not frozen):
        config = (await api(client, f"STREAM.INFO.{name}"))["config"]
        wanted = FROZEN if frozen else longest[name]
        if config["max_msg_size"] != wanted:
            await api(client, f"STREAM.UPDATE.{name}", config | {"max_msg_size": wanted}, timeout=UPDATE_S)


async def copy_frozen(client: WireClient, server: str, plan: Fewer, folder: Path) -> None:
    """Freeze the streams and copy them whole. Raises `UnavailableError` where one was written to, or was thawed, meanwhile."""
    await set_longest(client, plan.longest, frozen=True)
    names = set(await stream_names(client))
    if names != plan.longest.keys():
        raise UnavailableError(f"another stream was made: {', '.join(sorted(names ^ plan.longest.keys()))}", where="cluster")
    saved = await save_streams(client, folder, lambda config: config | {"max_msg_size": plan.longest[str(config["name"])]})
    for each in saved:
        info = await api(client, f"STREAM.INFO.{each.name}")
        same = int((await stream_state(client, each.name))["last_seq"]) == each.last
        if not same or info["config"]["max_msg_size"] != FROZEN or (info.get("cluster") or {}).get("leader") != server:
            raise UnavailableError(f"{each.name} was used while it was copied", where="cluster", mend="it is done again")
    _log.info(f"{len(saved)} streams are copied; this node keeps the log alone from now on")


def judge_removal(node: str, roles: dict[str, tuple[str, str]], servers: Servers | None) -> None:
    """Whether a node can be taken out and the rest goes on. Raises `RejectedError`.

    Args:
        roles: status and role of each member, this one too.
        servers: those that are one; None where one node has the log.
    """
    left = {name: said for name, said in roles.items() if name != node and said[0] in ("Online", "Maintenance", "Suspect")}
    if not any(role == "node" for _, role in left.values()):
        raise RejectedError(
            f"no node would be left that has the log without {node}", where="cluster",
            mend="let another join first, or `skerry cluster promote` a standby once that one is gone for good",
        )  # fmt: skip
    if servers is None or node not in dict(servers.members):
        return
    there = [name for name, _ in servers.members if name in left]
    if len(there) <= len(servers.members) // 2:
        raise RejectedError(
            f"without {node} there would be {len(there)} of {len(servers.members)} servers, and no quorum", where="cluster",
            mend="start those that are Offline first, or remove them",
        )  # fmt: skip


async def judge_copies(client: WireClient, node: str) -> None:
    """Whether the others have all that a node keeps. Raises `RejectedError`, `UnavailableError`."""
    for name in sorted(await stream_names(client)):
        info = await api(client, f"STREAM.INFO.{name}")
        group = info.get("cluster") or {}
        good = {each["name"] for each in group.get("replicas") or [] if each.get("current") and not each.get("offline")}
        if group.get("leader"):
            good.add(group["leader"])
        if len(good - {node}) <= int(info["config"]["num_replicas"]) // 2:
            raise RejectedError(
                f"{name} is not yet whole on the others: without {node} something of it could be lost", where="cluster",
                mend="try again in a minute",
            )  # fmt: skip
