"""The node's devices: their records in the broker's bucket, their log-in there, and their log-in over HTTP."""

from skerry.config import NodeConfig
from skerry.core.clock import Clock
from skerry.device import Attempts, AuditLog, BrokerLogin, DeviceAuthenticator, DeviceRegistry, Holding, TokenLogin
from skerry.node.link import DEVICES, LinkedBucket


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
