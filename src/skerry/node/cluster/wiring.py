"""The work of a cluster wired into a node: what follows it beside the node's connection, and what carries it to the workers."""

from typing import TYPE_CHECKING

from skerry.core.clock import Clock
from skerry.node.cluster.floor import Floor, needed
from skerry.node.cluster.gather import Gathering
from skerry.node.cluster.work import Work

if TYPE_CHECKING:
    from skerry.node.life import Node


def wire(node: "Node", clock: Clock, bucket: str) -> tuple[Work, Floor]:
    """Of a node that is being made, its link is there already; `bucket` is where readers keep their cursors."""
    cluster, name = node.cluster, node.config.node.name

    def units() -> tuple[list[str], int]:
        return [spec.name for spec in node.config.pipelines], node.config.partitions

    floor = Floor(name, cluster, bucket, units, lambda: needed(node, node.link.last_sequence))
    node.link.leads = lambda: cluster.leads
    if cluster.enabled:
        node.link.beside += [floor.run, Gathering(name, lambda: cluster.leads).run]
    return Work(cluster, lambda: node.pool, clock), floor
