"""What this node's own server has, for who reads while there is no quorum: it may be old, and is said to be."""

import asyncio
from typing import TYPE_CHECKING

from skerry.broker import Bucket, WireClient
from skerry.core.errors import SkerryError, UnavailableError
from skerry.node.link import Link

if TYPE_CHECKING:
    from skerry.node.life import Node

LOOK_S = 0.25


async def keep_copy(node: "Node") -> None:
    """Keep a connection for reads to this node's own server for as long as there is no quorum; works until cancelled."""
    try:
        while True:
            alone, copy = node.cluster.no_quorum_since is not None, node.link.copy
            if copy is not None and (not alone or copy.closed.done()):
                copy.close()
                node.link.copy = None
            elif alone and copy is None and node.server.port:
                node.link.copy = await _connect(node)
            await asyncio.sleep(LOOK_S)
    finally:
        if node.link.copy is not None:
            node.link.copy.close()


async def _connect(node: "Node") -> WireClient | None:
    server = node.server
    try:
        return await WireClient.connect(server.host, server.port, server.user, server.password, "copy")
    except SkerryError:
        return None


class CopiedBucket:
    """A bucket to look into: with a quorum as it is, without one as this node's own server has it. Behind `KeyValue`."""

    def __init__(self, link: Link, name: str) -> None:
        self._link = link
        self._name = name

    async def get(self, key: str) -> bytes | None:
        return await Bucket(self._link.looking, self._name).get(key)

    async def items(self, prefix: str = "") -> list[tuple[str, bytes]]:
        return await Bucket(self._link.looking, self._name).items(prefix)

    async def set(self, key: str, value: bytes) -> None:
        raise UnavailableError(f"{self._name} is only looked into here")

    async def delete(self, key: str) -> None:
        raise UnavailableError(f"{self._name} is only looked into here")
