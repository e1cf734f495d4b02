"""The node's devices: their records in the broker's bucket, their log-in there, and their log-in over HTTP."""

from typing import TYPE_CHECKING, Any

from skerry.broker import Connections, Presence
from skerry.config import NodeConfig
from skerry.core.clock import Clock, to_rfc3339
from skerry.core.errors import UnavailableError
from skerry.device import Attempts, AuditLog, BrokerLogin, DeviceAuthenticator, DeviceRegistry, Holding, TokenLogin
from skerry.node.link import DEVICES, LinkedBucket

if TYPE_CHECKING:
    from skerry.node.life import Node

Row = dict[str, Any]


class NodeDevices:
    """Who gets in. `store` is there while the node is connected to its broker; before, every question is `UnavailableError`."""

    def __init__(self, config: NodeConfig, clock: Clock, audit: AuditLog) -> None:
        self.store = LinkedBucket(DEVICES)
        self.authenticator = DeviceAuthenticator(
            self.store,
            key_file=config.data_dir / "keys" / "tokens.seed",
            clock=clock,
            challenge_ttl=config.devices.challenge_ttl,
            token_ttl=config.devices.token_ttl,
        )
        self._audit = audit
        holding = Holding(clock, Attempts())
        self.tokens = TokenLogin(self.authenticator, clock, holding, audit)
        self.login = BrokerLogin(
            self.registry.find,
            clock,
            anonymous=config.broker.anonymous,
            find_by_certificate=self.registry.find_by_certificate,
            check_token=self.authenticator.check_token,
            holding=holding,
            audit=audit,
        )

    @property
    def registry(self) -> DeviceRegistry:
        return self.authenticator.devices

    def note_refusal(self, reason: str, who: str, address: str) -> None:
        """Into the audit log: a refusal that the log-in itself does not know of, such as of a device that was kicked meanwhile."""
        self._audit.note("log-in refused", by=who[:64], address=self.address_of(who, address), reason=reason)

    def address_of(self, device: str, seen: str) -> str:
        """Where a device is: behind a TLS port the broker sees the node's own address, and the last log-in knows better."""
        last = self.login.last(device)
        return last.address if last is not None and seen.startswith(("127.", "[::1]")) else seen

    def refused(self) -> dict[str, int]:
        """Refused log-ins by reason, over MQTT and HTTP together."""
        return dict(self.login.refused + self.tokens.refused)


async def with_presence(rows: list[Row], connections: Connections) -> list[Row]:
    """Rows of devices with whether each is connected and when it was last there; None where the broker does not say."""
    try:
        seen = await connections.presence(rows[0]["id"] if len(rows) == 1 else "")
    except UnavailableError:
        return [{**row, "connected": None, "last_seen": None, "since": None} for row in rows]
    nobody = Presence()
    return [{**row, **_presence(seen.get(row["id"], nobody))} for row in rows]


async def with_all_known(node: "Node", row: Row) -> Row:
    """The row of one device with where it last logged in, its client ids, and what it was refused."""
    device = row["id"]
    last = node.login.last(device)
    return {
        **(await with_presence([row], node.connections))[0],
        "last_login": {"at": to_rfc3339(last.at), "address": last.address} if last else None,
        "client_ids": node.client_ids.of(device),
        "refused": node.refusals.of(device),
    }


def _presence(found: Presence) -> Row:
    return {
        "connected": found.connections > 0,
        "last_seen": to_rfc3339(found.last) if found.last else None,
        "since": to_rfc3339(found.since) if found.since else None,
        "messages": found.messages,
        "bytes": found.bytes,
    }
