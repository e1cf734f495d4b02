"""What a cluster manager is told."""

from importlib import metadata
from typing import Literal

import msgspec

from skerry.broker import parse_address
from skerry.cluster.members import Timing
from skerry.cluster.records import Role, check_name
from skerry.core.errors import ConfigError
from skerry.runtime import ResourceUsage


def own_version() -> str:
    """The version of this skerry."""
    return metadata.version("skerry")


class ClusterConfig(msgspec.Struct, frozen=True):
    """One node of a cluster.

    Attributes:
        node: its name, which no other node of the site may have.
        site: nodes of other sites are none of this cluster.
        address: `host:port` where other nodes reach it.
        capabilities: what it has that a pipeline may ask for.
        resources: what it lets pipelines have; 0 is no limit.
        discovery: how other nodes are found.
        seeds: `host:port` of nodes that are asked.
        servers: `host:port` of the nats-servers that keep the records; none: a cluster of one, in memory.
        user, password: of those.
        replicas: servers that keep each record: 1, 3 or 5.
        instance: what tells this node from another of the same name; made anew when it is empty.
        role: a `witness` neither leads nor gets work.
    """

    node: str
    site: str = "site"
    address: str = ""
    capabilities: tuple[str, ...] = ()
    resources: ResourceUsage = ResourceUsage()
    discovery: Literal["mdns", "seeds", "both"] = "mdns"
    seeds: tuple[str, ...] = ()
    servers: tuple[str, ...] = ()
    user: str = ""
    password: str = ""
    replicas: int = 1
    instance: str = ""
    role: Role = "node"
    version: str = msgspec.field(default_factory=own_version)
    timing: Timing = Timing()

    def __post_init__(self) -> None:
        check_name(self.node)
        for where in ("seeds", "servers"):
            for at, text in enumerate(getattr(self, where)):
                parse_address(text, f"{where}[{at}]")
        if self.address:
            parse_address(self.address, "address")
        if self.replicas not in (1, 3, 5):
            raise ConfigError(f"{self.replicas} is no number of replicas", where="replicas", allowed="1, 3 or 5")

    def __repr__(self) -> str:
        return f"ClusterConfig(node={self.node!r}, site={self.site!r}, address={self.address!r})"
