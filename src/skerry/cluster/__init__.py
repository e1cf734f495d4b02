"""A few boxes as one: who is there, who leads, and which runs what. Consensus is nats-server's; nothing here is."""

from typing import TYPE_CHECKING

from skerry.core.lazy import lazy

if TYPE_CHECKING:
    from skerry.cluster.beacon import Found
    from skerry.cluster.config import ClusterConfig
    from skerry.cluster.join_port import JoinPort, Pending
    from skerry.cluster.joining import Joined, has_joined, hello_of, join
    from skerry.cluster.leases import JetStreamLeases, Leases, MemoryLeases
    from skerry.cluster.manager import ClusterManager
    from skerry.cluster.members import Change, EdgeNode, NodeStatus, Timing
    from skerry.cluster.records import Partition
    from skerry.cluster.servers import Servers, place_of, read_servers, route_password, write_servers

__getattr__ = lazy(
    __name__,
    {
        "Change": "members",
        "ClusterConfig": "config",
        "ClusterManager": "manager",
        "EdgeNode": "members",
        "Found": "beacon",
        "JetStreamLeases": "leases",
        "JoinPort": "join_port",
        "Joined": "joining",
        "Leases": "leases",
        "MemoryLeases": "leases",
        "NodeStatus": "members",
        "Partition": "records",
        "Pending": "join_port",
        "Servers": "servers",
        "Timing": "members",
        "has_joined": "joining",
        "hello_of": "joining",
        "join": "joining",
        "place_of": "servers",
        "read_servers": "servers",
        "route_password": "servers",
        "write_servers": "servers",
    },
)

__all__ = [
    "Change", "ClusterConfig", "ClusterManager", "EdgeNode", "Found", "JetStreamLeases", "JoinPort", "Joined", "Leases",
    "MemoryLeases", "NodeStatus", "Partition", "Pending", "Servers", "Timing", "has_joined", "hello_of", "join", "place_of",
    "read_servers", "route_password", "write_servers",
]  # fmt: skip
