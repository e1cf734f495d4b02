"""What the metrics are made of, asked of all parts of a node: for who scrapes `/metrics`, and for an OpenTelemetry collector."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

from skerry.node.cluster import members_by_status
from skerry.node.metrics import Figures, families, render
from skerry.worker import PipelineReport, partitions_of

if TYPE_CHECKING:
    from skerry.node.life import Node

__all__ = ["families", "figures_of", "render"]


def figures_of(node: "Node", reports: Mapping[str, PipelineReport], ready: bool) -> Figures:
    """All figures as they are now."""
    figures = Figures()
    figures.pipelines = {name: report for name, report in reports.items() if report.books}
    figures.restarts = {f"worker-{worker.index}": worker.restarts.total for worker in node.pool.workers}
    figures.restarts = {**figures.restarts, "nats-server": node.server.restarts, "serving": node.serving.restarts.total}
    figures.restarts |= {"historian": node.history.restarts.total, "uplink": node.uplink.restarts.total}
    figures.restarts |= {"connectors": node.connectors.restarts.total, "dashboard": node.dashboard.restarts.total}
    figures.connectors = node.connectors.figures()
    figures.rollbacks = node.models.rollbacks
    figures.refused = node.devices.refused()
    figures.topics_refused = node.refusals.totals
    figures.api_refused = node.api.refused
    figures.audit_lost = {"limit": node.audit.left_out, "not-written": node.audit.lost}
    figures.store_bytes = node.disk.sizes
    figures.disk_given_up = node.disk.given_up
    processes = node.processes()
    figures.memory = {row["name"]: row["memory"] for row in processes}
    figures.cpu_seconds = {row["name"]: row["cpu_s"] for row in processes}
    figures.quarantined = {row["name"]: int(row["quarantined"]) for row in processes}
    figures.resources, figures.breaches = node.resources.figures(), node.resources.breaches
    figures.schedule, figures.partitions = node.schedule.figures(), partitions_of(each.report for each in node.pool.workers)
    figures.loop_lag_s, figures.loop_stalls = node.resources.watch.lag_s, node.resources.watch.count
    figures.uptime_ratio, figures.uptime = node.uptime.ratio, node.uptime.report()
    figures.uplink_waiting, figures.uplink_thinned = node.uplink.figures()
    figures.promised, figures.lately = node.promises.now, node.promises.lately
    figures.leads, figures.members = node.cluster.leads, members_by_status(node.cluster)
    figures.telemetry = node.telemetry.figures()
    figures.ready = ready
    return figures
