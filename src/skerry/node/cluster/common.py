"""What the nodes of a cluster have in common, kept the same: models, tokens, pauses, client ids; and what differs, named."""

import asyncio
import hashlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from skerry.broker import MIB, parse_address
from skerry.config import NodeConfig
from skerry.core import log
from skerry.core.clock import Clock
from skerry.core.errors import ConfigError, SkerryError
from skerry.core.service import beat, cancel_and_wait
from skerry.node.alarm_notes import BUCKET_BYTES as NOTES_BYTES
from skerry.node.alarm_notes import CommonNotes, OwnNotes
from skerry.node.cluster.copy import keep_copy
from skerry.node.cluster.following import Follower
from skerry.node.cluster.founding import own_address
from skerry.node.cluster.mirror import BUCKET_BYTES, Mirror
from skerry.node.cluster.model_files import STREAM_BYTES
from skerry.node.cluster.parts import ApiTokens, ModelVersions, UplinkPause
from skerry.node.cluster.rollcall import PREFIX, Said, alike_of, differences, said_by
from skerry.node.cluster.rollout import NodeRollout

if TYPE_CHECKING:
    from skerry.node.life import Node

COMPARE_S = 30.0
LOOK_S = 1.0
_ALL = ("0.0.0.0", "::")
DEVICES, CLIENTS = "skerry_devices", "skerry_clients"
_DEVICE = "device/"
_log = log.get("cluster")


def common_bytes(config: NodeConfig) -> int:
    """Bytes that the nodes' common state may take of the broker's store, besides what a node alone needs."""
    return STREAM_BYTES + BUCKET_BYTES + NOTES_BYTES + 64 * MIB if config.cluster.enabled else 0


class NodeCommon:
    """Of a node in no cluster nothing is compared and nothing is said. `run` works until cancelled."""

    def __init__(self, node: "Node", clock: Clock) -> None:
        self._node = node
        self._clock = clock
        self._on = node.cluster.enabled
        self._own = Said(node.config.node.name)
        self._digests: dict[Path, tuple[tuple[int, int], str]] = {}
        self._rollout = NodeRollout(node, clock)
        parts = (node.paused, ApiTokens(node), ModelVersions(node), UplinkPause(node.uplink), self._rollout)
        self._mirror = Mirror(parts, lambda: node.link.reading, node.config.data_dir / "cluster" / "common.json")
        self._clients = Follower(CLIENTS, self._learn)
        self._devices = Follower(DEVICES, self._end_connections)
        self._looking = asyncio.Lock()
        if self._on:
            node.client_ids.look = self._look_at_clients
            node.view.bundles, self._rollout.mirror = self._rollout, self._mirror
            node.link.plans.append(CommonNotes.plan)
            own = OwnNotes(node.storage.store, node.config.store_path)
            node.view.alarms.notes = CommonNotes(lambda: node.link.looking, lambda: node.link.reading, own)

    async def run(self) -> None:
        if not self._on:
            return
        tasks = [asyncio.create_task(each.run()) for each in (self._mirror, self._rollout)]
        tasks.append(asyncio.create_task(keep_copy(self._node)))
        try:
            while True:
                await self._say()
                await self._follow()
                await beat(LOOK_S)
        finally:
            await cancel_and_wait(*tasks)

    async def compared(self) -> None:
        """Wait until this node has what the others have, so that its workers begin with that; for half a minute at most."""
        if self._on and not self._mirror.first.is_set():
            try:
                async with asyncio.timeout(COMPARE_S):
                    await self._mirror.first.wait()
            except TimeoutError:
                _log.warning(f"the nodes' common state was not seen within {COMPARE_S:g} s: this node begins with its own")

    def nodes(self) -> list[dict[str, Any]]:
        """Where devices reach each member, this one first; nothing where there is no cluster."""
        if not self._on:
            return []
        said = {**said_by(self._mirror.others), self._own.node: self._own}
        names = sorted({node.id for node in self._node.cluster.members()} & said.keys() | {self._own.node})
        return [
            {"node": name, **said[name].doors}
            for name in sorted(names, key=lambda name: name != self._own.node)
            if said[name].doors
        ]

    def warnings(self) -> list[str]:
        """What a person should look at, one sentence each."""
        if not self._on:
            return []
        members = {node.id for node in self._node.cluster.members()}
        others = {name: said for name, said in said_by(self._mirror.others).items() if name in members}
        return [*self._mirror.troubles.values(), *self._rollout.warnings(), *differences(self._own, others)]

    async def _say(self) -> None:
        """Tell the others what this node is now."""
        config = self._node.config
        digests = {
            path: await asyncio.to_thread(self._digest, path) for path in {config.base / each.file for each in config.models}
        }
        self._own = Said(config.node.name, self._doors(), alike_of(config, digests))
        self._mirror.say(PREFIX + self._own.node, msgspec.json.encode(self._own))

    def _digest(self, path: Path) -> str:
        """Of a model's file; computed again when it is another one."""
        try:
            status = path.stat()
            mark = (status.st_size, status.st_mtime_ns)
            known = self._digests.get(path)
            if known is None or known[0] != mark:
                with path.open("rb") as file:
                    known = self._digests[path] = (mark, hashlib.file_digest(file, "sha256").hexdigest())
        except OSError:
            return ""
        return known[1]

    def _doors(self) -> dict[str, str]:
        node = self._node
        outside = own_address(node.config).rpartition(":")[0]
        listened = {"mqtt": _listened(node), **node.tls.addresses, "http": node.http_address}
        return {name: _reached(address, outside) for name, address in listened.items() if address}

    async def _follow(self) -> None:
        try:
            client = self._node.link.reading
            await self._look_at_clients()
            await self._devices.look(client)
        except (SkerryError, TimeoutError) as error:
            _log.debug(f"what other nodes wrote about devices is not read: {error}")

    async def _look_at_clients(self) -> None:
        async with self._looking:
            await self._clients.look(self._node.link.reading)

    async def _learn(self, key: str, data: bytes | None) -> None:
        self._node.client_ids.learn(key, data)

    async def _end_connections(self, key: str, data: bytes | None) -> None:
        """A device was revoked, removed or given another credential, maybe at another node: it has to log in again here."""
        if key.startswith(_DEVICE):
            await self._node.server_kick(key.removeprefix(_DEVICE))


def _listened(node: "Node") -> str:
    """Where devices connect without TLS; empty where they may not."""
    if not node.config.broker.mqtt:
        return ""
    port = node.server.mqtt_listener()[1]
    return f"{node.config.broker.mqtt.rpartition(':')[0]}:{port}" if port else ""


def _reached(address: str, outside: str) -> str:
    """An address as others reach it: one of all interfaces is that where this node is reached as a member."""
    try:
        host, port = parse_address(address, "address")
    except ConfigError:
        return address
    return f"{outside}:{port}" if host in _ALL else address
