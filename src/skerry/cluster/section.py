"""`[cluster]` of the configuration."""

import re
from typing import Literal

import msgspec

from skerry.broker import parse_address
from skerry.core.errors import ConfigError

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,62}")
_ALL = ("0.0.0.0", "::")
MOST_PARTITIONS = 64


class ClusterSection(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`[cluster]`: several boxes as one.

    Attributes:
        name: of the cluster; empty: the site's.
        listen: `host:port` where nodes join and members talk; port 0 asks the kernel, and keeps what it gave.
        advertise: `host:port` where the others reach `listen`, where that is another.
        routes: `host:port` between the brokers of members; empty: a port of the kernel's that is kept.
        partitions: into how many parts the work of each pipeline is dealt; the same on all nodes.
        replicas: servers that keep what is acknowledged, once there are so many members.
        discovery: how nodes find each other: by mDNS, by asking the seeds, or both.
        seeds: `host:port` of members' `listen`, asked by `cluster join` where nothing else says whom.
    """

    enabled: bool = False
    name: str = ""
    listen: str = "0.0.0.0:7443"
    advertise: str = ""
    routes: str = ""
    partitions: int = 4
    replicas: int = 3
    discovery: Literal["mdns", "seeds", "both"] = "mdns"
    seeds: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.name and not _NAME.fullmatch(self.name):
            raise ConfigError(f"{self.name!r} is no name for a cluster", where="name", allowed="letters, digits, - and _")
        parse_address(self.listen, "listen")
        if self.routes:
            parse_address(self.routes, "routes")
        if self.advertise:
            host, port = parse_address(self.advertise, "advertise")
            if not port or host in _ALL:
                raise ConfigError(f"others cannot reach {self.advertise!r}", where="advertise", mend="name an address and a port")
        if not 1 <= self.partitions <= MOST_PARTITIONS:
            raise ConfigError(f"{self.partitions} partitions", where="partitions", allowed=f"1 to {MOST_PARTITIONS}")
        if self.replicas not in (1, 3, 5):
            raise ConfigError(f"{self.replicas} is no number of replicas", where="replicas", allowed="1, 3 or 5")
        for at, seed in enumerate(self.seeds):
            parse_address(seed, f"seeds[{at}]")
            if seed.endswith(":0"):
                raise ConfigError(f"{seed!r} has no port", where=f"seeds[{at}]", mend="name a member's cluster.listen")
