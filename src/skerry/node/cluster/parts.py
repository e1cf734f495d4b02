"""What of a node is mirrored to the others besides paused pipelines: models with files, tokens, the uplink's pause."""

import asyncio
from typing import TYPE_CHECKING

from skerry.core import log
from skerry.inference import coming_folder, export_index, index_files, missing_files, take_model_file
from skerry.node.cluster import model_files

if TYPE_CHECKING:
    from skerry.node.life import Node
    from skerry.node.uplink import NodeUplink

_PAUSED, _SENDING = b"paused", b"sending"
_log = log.get("cluster")


class ApiTokens:
    """Who may ask over HTTP: names, scopes and digests of tokens; when each was last used is each node's own."""

    key = "tokens"

    def __init__(self, node: "Node") -> None:
        self._node = node

    async def read(self) -> bytes | None:
        return await asyncio.to_thread(self._node.tokens.exported)

    async def give(self, data: bytes) -> None:
        """Nothing else is needed."""

    async def given(self, data: bytes) -> None:
        """Nothing is left over."""

    async def take(self, data: bytes) -> None:
        await asyncio.to_thread(self._node.tokens.adopt, data)


class ModelVersions:
    """The catalogue: versions, which is active, which failed. A version is here only after its file is."""

    key = "models"

    def __init__(self, node: "Node") -> None:
        self._node = node

    async def read(self) -> bytes | None:
        return await asyncio.to_thread(export_index, self._node.models.catalogue)

    async def give(self, data: bytes) -> None:
        catalogue = self._node.models.catalogue
        named = index_files(data)
        async with model_files.connected(self._node.server) as client:
            there = await model_files.there(client)
            for sha256 in named.keys() - there:
                await model_files.give(client, catalogue.blobs / sha256, sha256)

    async def given(self, data: bytes) -> None:
        async with model_files.connected(self._node.server) as client:
            models = {each for each in await model_files.there(client) if "-" not in each}  # else it is of a bundle
            await model_files.drop(client, models - set(index_files(data)))

    async def take(self, data: bytes) -> None:
        catalogue = self._node.models.catalogue
        lacking = await asyncio.to_thread(missing_files, catalogue, data)
        if lacking:
            folder = await asyncio.to_thread(coming_folder, catalogue)
            async with model_files.connected(self._node.server) as client:
                for sha256 in lacking:
                    part = folder / sha256
                    await model_files.fetch(client, sha256, part)
                    await asyncio.to_thread(take_model_file, catalogue, part, sha256)
                    _log.info(f"the file {sha256[:12]} of a model came from another node")
        await self._node.models.adopt(data)


class UplinkPause:
    """Whether the uplink is paused, on whichever node it runs."""

    key = "uplink"

    def __init__(self, uplink: "NodeUplink") -> None:
        self._uplink = uplink

    async def read(self) -> bytes | None:
        return _PAUSED if self._uplink.paused else _SENDING

    async def give(self, data: bytes) -> None:
        """Nothing else is needed."""

    async def given(self, data: bytes) -> None:
        """Nothing is left over."""

    async def take(self, data: bytes) -> None:
        if (data == _PAUSED) != self._uplink.paused:
            await self._uplink.hold(data == _PAUSED)
