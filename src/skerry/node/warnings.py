"""What a person should look at on a node, one sentence each."""

from typing import TYPE_CHECKING

from skerry.core.units import counted
from skerry.node.link import ALARM

if TYPE_CHECKING:
    from skerry.node.life import Node


def warnings_of(node: "Node") -> list[str]:
    """The warnings of all parts of a node."""
    found = [f"sink {relay.name}: {relay.failure}" for relay in node.relays if relay.failure]
    found += [f"pipeline {name} is quarantined: {why}" for name, why in node.pool.quarantined.items()]
    if node.link.fill > ALARM:
        found.append(f"the log is {node.link.fill:.0%} full: a pipeline is paused, failed or too slow")
    if node.link.gone.messages:
        found.append(f"given up unread: {counted(node.link.gone.messages, 'message')} (broker.retention)")
    found += [*node.models.warnings(), *node.schedule.warnings(), *node.resources.warnings(), *node.history.warnings()]
    found += [*node.disk.warnings(), *node.storage.warnings(), *node.uplink.warnings()]
    found += [*node.connectors.warnings(), *node.dashboard.warnings(), *node.bundles.warnings(), *node.telemetry.warnings()]
    if node.serving.restarts.total:
        found.append(node.serving.restarts.sentence("the model server", node.serving.last_words))
    found += [trouble for trouble in (node.linking.trouble, node.server.warning) if trouble]
    found += [w.restarts.sentence(f"worker {w.index}", w.last_words) for w in node.pool.workers if w.last_words]
    found += [f"worker {w.index} cannot read the log: {w.report.waiting}" for w in node.pool.workers if w.report.waiting]
    if node.audit.lost:
        found.append(f"the audit log could not take {counted(node.audit.lost, 'line')}")
    found += [*node.tls.warnings(), *node.cluster.warnings(), *node.growth.warnings(), *node.common.warnings()]
    found += node.api.warnings()
    return found
