"""Where a node stands among the others, as the files of its data directory say, and where its server is to be for that."""

from typing import Literal

import msgspec

from skerry.broker import ALONE, Place, parse_address
from skerry.cluster import place_of, read_servers
from skerry.config import NodeConfig
from skerry.core.files import replace_synced, sync_names
from skerry.node.cluster.founding import cluster_folder, kept_port, own_address
from skerry.node.cluster.member import NodeCluster

State = Literal["alone", "standby", "promoting", "growing", "whole"]
PROMOTED, TURN = "promoted", "turn"
_ALL = ("0.0.0.0", "::")


class Seat:
    """Reads the files each time, and writes the small ones.

    Attributes:
        quiet: whether a server alone is to be started where no device reaches it.
    """

    def __init__(self, config: NodeConfig, seed: str, cluster: NodeCluster) -> None:
        self.quiet = False
        self.folder = cluster_folder(config)
        self.name = config.node.name
        self._config = config
        self._seed = seed
        self._cluster = cluster

    @property
    def state(self) -> State:
        """As the files of the data directory say."""
        if not self._cluster.enabled:
            return "alone"
        if self.read(PROMOTED) == "filling":
            return "promoting"
        servers = read_servers(self.folder)
        if servers is not None:
            return servers.state
        return "alone" if self.founder else "standby"

    @property
    def founder(self) -> bool:
        joined = self._cluster.joined
        return bool(self.read(PROMOTED)) or (joined is not None and joined.by == self.name)

    def read(self, name: str) -> str:
        """A word that is kept in a file; empty where there is none."""
        try:
            return (self.folder / name).read_text("utf-8")
        except FileNotFoundError:
            return ""

    def write(self, name: str, word: str) -> None:
        replace_synced(self.folder / name, word.encode())
        sync_names(self.folder)

    def place(self) -> Place:
        """Where the server stands, for its next start."""
        if not self._cluster.enabled:
            return ALONE
        if self.state == "promoting":
            return msgspec.structs.replace(ALONE, quiet=True)
        found = place_of(self.folder, self.name, self._seed, self._listen())
        return msgspec.structs.replace(found, quiet=self.quiet) if found.routes is None else found

    def _listen(self) -> str:
        """Where it takes routes, where that is not the address that the others know."""
        host = parse_address(self._config.cluster.routes, "cluster.routes")[0] if self._config.cluster.routes else ""
        return self._config.cluster.routes if host in _ALL else ""

    def routes(self) -> str:
        """`host:port` where the others reach this node's routes."""
        outer = parse_address(own_address(self._config), "cluster.advertise")[0]
        pinned = self._config.cluster.routes
        host, port = parse_address(pinned, "cluster.routes") if pinned else (outer, 0)
        host, port = outer if host in _ALL else host, port or kept_port(self.folder, "routes", outer)
        return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"

    def addresses(self) -> list[str]:
        """Join ports of the other members, the one first that let this node in."""
        joined = self._cluster.joined
        known = [*(joined.members if joined else ()), *self._cluster.members()]
        known.sort(key=lambda node: joined is None or node.id != joined.by)
        return list(dict.fromkeys(node.address for node in known if node.address and node.id != self.name))
