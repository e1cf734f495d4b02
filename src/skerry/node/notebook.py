"""A node of this process as notebooks show it."""

from typing import TYPE_CHECKING

from skerry.core.html import table

if TYPE_CHECKING:
    from skerry.node.life import Node


def node_html(node: "Node") -> str:
    """Name, site, addresses, whether it is ready and why not, and its pipelines."""
    section = node.config.node
    ready, reason = node.view.ready()
    rows = [
        ("site", section.site),
        ("version", node.version),
        ("ready" if ready else "not ready", reason),
        ("data", str(node.config.data_dir)),
        ("MQTT", node.config.broker.mqtt),
        ("HTTP", node.config.api.listen),
        ("models", ", ".join(each.name for each in node.config.models)),
    ]
    columns = ("pipeline", "state", "topic", "model", "messages/s", "events")
    pipelines = [
        (each["name"], each["state"], each["topic"], each["model"], each["rate"], each["events"]) for each in node.view.pipelines()
    ]
    return table(f"node {section.name}", (), rows) + table("pipelines", columns, pipelines)
