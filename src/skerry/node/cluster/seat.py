"""Where a node stands among the others, as the files of its data directory say, and where its server is to be for that."""

import shutil
from typing import Literal

import msgspec

from skerry.broker import ALONE, Place, parse_address
from skerry.cluster import JOINED, Servers, place_of, read_servers, write_servers
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
        self.broker = config.data_dir / "broker"
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
            return "growing" if servers.state == "growing" else "whole"
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

    def follow(self, node: str) -> None:
        """Another node has the log alone: this one stands by from now on. A crash in here leaves it to be done again."""
        joined = self._cluster.joined
        assert joined is not None
        joined = self._cluster.joined = msgspec.structs.replace(joined, by=node)
        replace_synced(self.folder / JOINED, msgspec.json.encode(joined))
        for name in (PROMOTED, TURN):
            (self.folder / name).unlink(missing_ok=True)
        sync_names(self.folder)
        write_servers(self.folder, None)

    def clear_away(self, store: str) -> None:
        """Stores of before: the log is in this one."""
        own = (self.broker / ALONE.store,) if self.founder else ()  # of another it is what it had before it joined
        for old in (*own, *self.broker.glob("clustered-*")):
            if old.name != store and old.is_dir():
                shutil.rmtree(old, ignore_errors=True)

    def place(self) -> Place:
        """Where the server stands, for its next start."""
        if not self._cluster.enabled:
            return ALONE
        if self.state == "promoting":
            return msgspec.structs.replace(ALONE, quiet=True)
        found = place_of(self.folder, self.name, self._seed, self._listen())
        return msgspec.structs.replace(found, quiet=self.quiet) if found.routes is None else found

    def _listen(self) -> str:
        """Where it takes routes: at the host of its configuration, as the others may know another, and at the port they know."""
        cluster, servers = self._config.cluster, read_servers(self.folder)
        wanted = parse_address(cluster.routes or cluster.listen, "cluster.routes")[0]
        if servers is None:
            return ""
        _, port = parse_address(servers.address(self.name), "routes")
        return _joined(wanted, port)

    def routes_now(self, servers: Servers) -> str:
        """Where the others reach it as one of these: the host of now, and the port that it has there."""
        host, _ = parse_address(self.routes(), "routes")
        return _joined(host, parse_address(servers.address(self.name), "routes")[1])

    def routes(self) -> str:
        """`host:port` where the others reach this node's routes."""
        outer = parse_address(own_address(self._config), "cluster.advertise")[0]
        pinned = self._config.cluster.routes
        host, port = parse_address(pinned, "cluster.routes") if pinned else (outer, 0)
        own = parse_address(pinned or self._config.cluster.listen, "cluster.routes")[0]
        host, port = outer if host in _ALL else host, port or kept_port(self.folder, "routes", own)
        return _joined(host, port)

    def addresses(self) -> list[str]:
        """Join ports of the other members, the one first that let this node in."""
        joined = self._cluster.joined
        known = [*(joined.members if joined else ()), *self._cluster.members()]
        known.sort(key=lambda node: joined is None or node.id != joined.by)
        return list(dict.fromkeys(node.address for node in known if node.address and node.id != self.name))


def _joined(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
