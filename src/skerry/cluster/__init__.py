"""A few boxes as one: who is there, who leads, and which runs what. Consensus is nats-server's; nothing here is."""

from typing import TYPE_CHECKING

from skerry.core.lazy import lazy

if TYPE_CHECKING:
    from skerry.cluster.beacon import Found
    from skerry.cluster.config import ClusterConfig
    from skerry.cluster.join_port import JoinPort, Pending
    from skerry.cluster.joining import CA, CERTIFICATE, JOINED, KEY, Joined, clock_of, has_joined, hello_of, join, keep_joined
    from skerry.cluster.leases import JetStreamLeases, Leases, MemoryLeases
    from skerry.cluster.manager import ClusterManager
    from skerry.cluster.members import Change, EdgeNode, NodeStatus, Timing
    from skerry.cluster.records import Entry, Partition, Role
    from skerry.cluster.section import ClusterSection
    from skerry.cluster.servers import Servers, place_of, read_servers, route_password, write_servers
    from skerry.cluster.tunnel import Tunnel, carrier, proof_of

__getattr__ = lazy(
    __name__,
    {
        "CA": "joining",
        "CERTIFICATE": "joining",
        "Change": "members",
        "ClusterConfig": "config",
        "ClusterManager": "manager",
        "ClusterSection": "section",
        "EdgeNode": "members",
        "Entry": "records",
        "Found": "beacon",
        "JOINED": "joining",
        "JetStreamLeases": "leases",
        "JoinPort": "join_port",
        "Joined": "joining",
        "KEY": "joining",
        "Leases": "leases",
        "MemoryLeases": "leases",
        "NodeStatus": "members",
        "Partition": "records",
        "Pending": "join_port",
        "Role": "records",
        "Servers": "servers",
        "Timing": "members",
        "Tunnel": "tunnel",
        "carrier": "tunnel",
        "clock_of": "joining",
        "has_joined": "joining",
        "hello_of": "joining",
        "join": "joining",
        "place_of": "servers",
        "proof_of": "tunnel",
        "read_servers": "servers",
        "route_password": "servers",
        "write_servers": "servers",
        "keep_joined": "joining",
    },
)

__all__ = [
    "CA", "CERTIFICATE", "JOINED", "KEY", "Change", "ClusterConfig", "ClusterManager", "ClusterSection", "EdgeNode", "Entry",
    "Found", "JetStreamLeases", "JoinPort", "Joined", "Leases", "MemoryLeases", "NodeStatus", "Partition", "Pending", "Role",
    "Servers", "Timing", "Tunnel", "carrier", "clock_of", "has_joined", "hello_of", "join", "keep_joined", "place_of", "proof_of",
    "read_servers", "route_password", "write_servers",
]  # fmt: skip
