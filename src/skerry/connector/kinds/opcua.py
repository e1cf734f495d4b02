"""OPC UA: values of nodes, read from time to time or told by a subscription, become one JSON object an answer."""

import asyncio
import math
from collections.abc import AsyncIterator, Mapping
from contextlib import nullcontext
from datetime import datetime
from typing import TYPE_CHECKING, Any, Literal

import msgspec

from skerry.connector.contract import Batch, Connector, Place
from skerry.connector.credentials import check_url, read_secret
from skerry.connector.kinds.opcua_security import Level, Safe, Security
from skerry.connector.mapping import check_template, fill
from skerry.connector.polling import Polled, Value, look, poll
from skerry.core.clock import to_rfc3339
from skerry.core.errors import ConfigError, UnavailableError
from skerry.core.service import Bell
from skerry.core.units import at_key, parse_duration

if TYPE_CHECKING:
    from asyncua.client.client import Client
    from asyncua.common.node import Node

MOST_SERVERS, MOST_NODES = 100, 1000


class NodeSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A value: its name here, and its node id there (`ns=2;s=Line.Speed`, `ns=2;i=5`)."""

    name: str
    id: str

    def __post_init__(self) -> None:
        if not self.name or self.name == "ts":
            raise ConfigError(f"{self.name!r} is no name of a value", where="name")


class ServerSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One server, and who logs in there. `cert`: a file with the one certificate that it may have."""

    name: str
    url: str
    username: str = ""
    password_file: str = ""
    cert: str = ""

    def __post_init__(self) -> None:
        check_url(self.url, ("opc.tcp",))
        if not self.name:
            raise ConfigError("a server has a name", where="name")


class OpcUaSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Servers that have the same nodes; `{device}` of `topic` is a server's name. `security`, `cert`, `key`, `trusted`: see
    `Security`."""

    servers: tuple[ServerSettings, ...]
    nodes: tuple[NodeSettings, ...]
    mode: Literal["poll", "subscribe"] = "poll"
    topic: str = "devices/{device}/values"
    poll: str = "1s"
    timeout: str = "5s"
    security: Level = "none"
    cert: str = ""
    key: str = ""
    trusted: str = ""

    def __post_init__(self) -> None:
        if self.security == "none" and (self.cert or self.key or self.trusted or any(each.cert for each in self.servers)):
            raise ConfigError("certificates are of no use without it", where="security", allowed="sign, encrypt")
        if bool(self.cert) != bool(self.key):
            raise ConfigError("certificate and key go together", where="key" if self.cert else "cert", mend="name both, or none")
        check_template(self.topic, "topic", ("device", "name"))
        for key, few, most in (("servers", self.servers, MOST_SERVERS), ("nodes", self.nodes, MOST_NODES)):
            names = [each.name for each in few]
            if not 1 <= len(names) <= most:
                raise ConfigError(f"{len(names)} are out of range", where=key, allowed=f"1 to {most}")
            if len(set(names)) < len(names):
                raise ConfigError("a name is there twice", where=key)
        for key, text in (("poll", self.poll), ("timeout", self.timeout)):
            if not 50_000 <= at_key(key, parse_duration, text) <= 3_600_000_000:
                raise ConfigError(f"{text} is out of range", where=key, allowed="50ms to 1h")


class _Asked:
    """One server over a connection of its own. What it tells between two answers is kept, the last of each node."""

    def __init__(self, server: ServerSettings, settings: OpcUaSettings, place: Place) -> None:
        self._server = server
        self._settings = settings
        self._place = place
        self._timeout = parse_duration(settings.timeout) / 1e6
        own = Security(settings.security, settings.cert, settings.key, settings.trusted)
        self._safe = Safe(own, place) if settings.security != "none" else None
        self._client: Client | None = None
        self._names: dict[str, str] = {}
        self._changed: dict[str, Value] = {}
        self._bell = Bell()
        self._closing: set[asyncio.Task[None]] = set()

    async def ask(self) -> Mapping[str, Value]:
        """Values now, or those that changed since the last answer. Raises `UnavailableError`."""
        from asyncua.ua.uaerrors import UaError  # late: an extra

        try:
            client = await self._connected()
            if self._settings.mode == "subscribe":
                return await self._changes(client)
            found = {}
            wanted = self._settings.nodes
            answers = await client.read_attributes([client.get_node(each.id) for each in wanted])
            for each, answer in zip(wanted, answers, strict=True):
                good = answer.StatusCode is None or answer.StatusCode.is_good()
                value = _value(answer.Value.Value) if good and answer.Value is not None else None
                if value is not None:
                    found[each.name] = value
        except UaError as error:
            raise UnavailableError(str(error) or type(error).__name__) from error
        if not found:
            raise UnavailableError("none of the nodes has a good value", mend="look at their ids")
        return found

    async def _connected(self) -> "Client":
        from asyncua.client.client import Client  # late: an extra

        if self._client is None:
            client = Client(self._server.url, timeout=self._timeout)
            if self._server.username:
                client.set_user(self._server.username)
                client.set_password(await asyncio.to_thread(read_secret, self._place.base, self._server.password_file))
            async with self._safe.over(client, self._server.name, self._server.cert) if self._safe else nullcontext():
                await client.connect()
            self._client = client
            if self._settings.mode == "subscribe":
                await self._subscribe(client)
        return self._client

    async def _subscribe(self, client: "Client") -> None:
        nodes = [client.get_node(each.id) for each in self._settings.nodes]
        self._names = {node.nodeid.to_string(): each.name for node, each in zip(nodes, self._settings.nodes, strict=True)}
        subscription = await client.create_subscription(parse_duration(self._settings.poll) / 1e3, self)
        answers: Any = await subscription.subscribe_data_change(nodes)
        for node, answer in zip(nodes, answers if isinstance(answers, list) else [answers], strict=True):
            if not isinstance(answer, int):
                raise UnavailableError(f"node {node.nodeid.to_string()}: {answer.name}", mend="look at its id")

    def datachange_notification(self, node: "Node", val: Any, data: Any) -> None:
        """Called by the library: a node has another value."""
        name, value = self._names.get(node.nodeid.to_string()), _value(val)
        if name is not None and value is not None:
            self._changed[name] = value
            self._bell.ring()

    async def _changes(self, client: "Client") -> Mapping[str, Value]:
        if not self._changed:
            await self._bell.wait(self._timeout / 2)
        if not self._changed:
            await client.check_connection()
            await client.get_node("i=2259").read_value()  # ServerStatus.State: whether it still answers
        found, self._changed = self._changed, {}
        return found

    def let_go(self) -> None:
        """Close; the next question connects again."""
        client, self._client = self._client, None
        if client is not None:
            closing = asyncio.get_running_loop().create_task(_close(client))
            self._closing.add(closing)
            closing.add_done_callback(self._closing.discard)


async def _close(client: "Client") -> None:
    try:
        async with asyncio.timeout(2):
            await client.disconnect()
    except Exception:  # noqa: BLE001 - the library raises whatever a dead connection gives, and it is let go of all the same
        return


def _value(value: Any) -> Value | None:
    """A value that JSON has; None for arrays, structures, bytes and what is no number."""
    if isinstance(value, datetime):
        return to_rfc3339(round(value.timestamp() * 1e6))
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value if isinstance(value, bool | int | str) else None


class OpcUaIn(Connector):
    """Asks each server every `poll`, or is told by it."""

    Settings = OpcUaSettings

    def __init__(self, settings: OpcUaSettings, place: Place) -> None:
        """Raises `ConfigError` where the extra is missing, or for an id that is none."""
        super().__init__(settings, place)
        try:
            from asyncua.ua import NodeId  # late: an extra
            from asyncua.ua.uaerrors import UaError
        except ImportError as error:
            raise ConfigError("kind opcua needs asyncua", mend="install it: pip install 'skerry[opcua]'") from error
        self.settings: OpcUaSettings = settings
        for each in settings.nodes:
            try:
                NodeId.from_string(each.id)
            except UaError as error:
                allowed = "such as ns=2;s=Speed"
                raise ConfigError(f"{each.id!r} is no node id", where=f"nodes.{each.name}", allowed=allowed) from error

    def _servers(self) -> list[Polled]:
        found = []
        for each in self.settings.servers:
            topic = fill(self.settings.topic, {"device": each.name, "name": self.place.name})
            asked = _Asked(each, self.settings, self.place)
            found.append(Polled(each.name, topic or "", asked.ask, asked.let_go))
        return found

    @property
    def _timeout(self) -> float:
        return parse_duration(self.settings.timeout) / 1e6

    async def read(self, cursor: bytes) -> AsyncIterator[Batch]:
        """What is not stored when the process ends is asked again: there is nothing to acknowledge to."""
        async for batch in poll(self, self._servers(), parse_duration(self.settings.poll) / 1e6, self._timeout):
            yield batch

    async def test(self) -> str:
        return await look(self._servers(), self._timeout)
