"""Which nats-servers are one: kept in `data_dir/cluster`, so that a start knows it without asking anybody.

A node that finds it starts its server with routes to the others and with a store of its own for that cluster; one without it starts
a server alone. The file is written whole or not at all.
"""

import hashlib
import hmac
from pathlib import Path
from typing import Literal

import msgspec

from skerry.broker import ALONE, Place, Routes, parse_address
from skerry.cluster.joining import CA, CERTIFICATE, KEY
from skerry.core.errors import ConfigError, CorruptError, UnavailableError
from skerry.core.files import replace_synced, sync_names

SERVERS = "servers.json"


class Servers(msgspec.Struct, frozen=True):
    """The servers of a cluster.

    Attributes:
        name: of the cluster, the same on all.
        replicas: how many of them keep each stream: 1, 3 or 5.
        members: node and `host:port` where its server takes routes.
        state: `growing` while the streams of the server alone are on their way into this one; then no device may connect.
            `alone`, in the log only: one server has it.
        turn: which attempt at growing it is; each has a store of its own, so that none finds what another left.
    """

    name: str
    replicas: int
    members: tuple[tuple[str, str], ...]
    state: Literal["growing", "whole", "alone"] = "whole"
    turn: int = 0

    def __post_init__(self) -> None:
        if self.replicas not in (1, 3, 5) or self.replicas > len(self.members):
            raise ConfigError(f"{self.replicas} replicas on {len(self.members)} servers", where="replicas", allowed="1, 3 or 5")
        for node, address in self.members:
            parse_address(address, f"members.{node}")

    @property
    def store(self) -> str:
        """Name of the folder of the server's streams."""
        return f"clustered-{self.turn}"

    def address(self, node: str) -> str:
        """Where this node's server takes routes. Raises `CorruptError` when it is none of them."""
        found = dict(self.members).get(node)
        if found is None:
            raise CorruptError(
                f"{node} is none of the cluster's servers", where=SERVERS, mend="was node.name changed? set it as it was"
            )
        return found

    def place(self, node: str, folder: Path, password: str, listen: str = "") -> Place:
        """The server of a node as one of these; `folder` has its certificate. `listen`: where it takes routes, if elsewhere."""
        host, port = parse_address(listen or self.address(node), "routes")
        routes = Routes(
            self.name, host, port, tuple(address for _, address in self.members),
            str(folder / CERTIFICATE), str(folder / KEY), str(folder / CA), password,
        )  # fmt: skip
        return Place(node, self.store, routes, self.replicas)


def read_servers(folder: Path) -> Servers | None:
    """What is kept; None where this node's server is alone. Raises `CorruptError`, `UnavailableError`."""
    file = folder / SERVERS
    try:
        return msgspec.json.decode(file.read_bytes(), type=Servers)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise UnavailableError(f"cannot be read: {error.strerror}", where=str(file)) from error
    except (msgspec.DecodeError, msgspec.ValidationError, ConfigError) as error:
        raise CorruptError(
            f"the list of the cluster's servers cannot be read: {error}", where=str(file), mend="copy that of another member here"
        ) from error


def write_servers(folder: Path, servers: Servers | None) -> None:
    """Keep it; None: the server is alone again. Raises `UnavailableError`."""
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        if servers is None:
            (folder / SERVERS).unlink(missing_ok=True)
        else:
            replace_synced(folder / SERVERS, msgspec.json.encode(servers))
        sync_names(folder)
    except OSError as error:
        raise UnavailableError(f"cannot be written: {error.strerror}", where=str(folder / SERVERS), mend="see the disk") from error


def place_of(folder: Path, node: str, seed: str, listen: str = "") -> Place:
    """Where this node's server stands now: alone, or one of several. `seed`: see `route_password`.

    Raises `CorruptError`, `UnavailableError`.
    """
    servers = read_servers(folder)
    return ALONE if servers is None else servers.place(node, folder, route_password(seed), listen)


def route_password(seed: str) -> str:
    """The password between the servers: all members know the seed that signs log-ins, and it is told to nobody else."""
    return hmac.new(seed.encode(), b"routes between the servers of a cluster", hashlib.sha256).hexdigest()
