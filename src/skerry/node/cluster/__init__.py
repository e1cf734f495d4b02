"""The cluster's part of a node: who it is to the others, whom it lets in, what it may run, and what `status` and the API say."""

from typing import TYPE_CHECKING

from skerry.core.lazy import lazy

if TYPE_CHECKING:
    from skerry.node.cluster.common import NodeCommon, common_bytes
    from skerry.node.cluster.copy import CopiedBucket
    from skerry.node.cluster.examine import certificates, examine_cluster
    from skerry.node.cluster.floor import Floor, stored_by_workers
    from skerry.node.cluster.founding import cluster_config, cluster_folder, join_site, kept_port, prepare
    from skerry.node.cluster.growth import Growth
    from skerry.node.cluster.member import NodeCluster
    from skerry.node.cluster.paused import Paused
    from skerry.node.cluster.placed import PlacedLeases, RecordsPlace
    from skerry.node.cluster.view import ClusterLink, members_by_status
    from skerry.node.cluster.wiring import wire
    from skerry.node.cluster.work import Work, while_leading

__getattr__ = lazy(
    __name__,
    {
        "ClusterLink": "view",
        "CopiedBucket": "copy",
        "Growth": "growth",
        "Floor": "floor",
        "stored_by_workers": "floor",
        "NodeCluster": "member",
        "NodeCommon": "common",
        "Paused": "paused",
        "Work": "work",
        "while_leading": "work",
        "wire": "wiring",
        "PlacedLeases": "placed",
        "RecordsPlace": "placed",
        "certificates": "examine",
        "cluster_config": "founding",
        "cluster_folder": "founding",
        "common_bytes": "common",
        "examine_cluster": "examine",
        "join_site": "founding",
        "kept_port": "founding",
        "members_by_status": "view",
        "prepare": "founding",
    },
)

__all__ = [
    "ClusterLink", "CopiedBucket", "Floor", "Growth", "NodeCluster", "NodeCommon", "Paused", "PlacedLeases", "RecordsPlace", "Work",
    "certificates", "cluster_config", "cluster_folder", "common_bytes", "examine_cluster", "join_site", "kept_port",
    "members_by_status", "prepare", "stored_by_workers", "while_leading", "wire",
]  # fmt: skip
