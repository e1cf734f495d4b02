"""Connectors: what is already there brought into the node's log, and events brought out, in a process of its own."""

from typing import TYPE_CHECKING

from skerry.connector.spec import ConnectorSpec, parse_connectors
from skerry.core.lazy import lazy

if TYPE_CHECKING:
    from skerry.connector.contract import Batch, Connector, Message, Outgoing, Place, Sink, Source
    from skerry.connector.intake import fault_of, store
    from skerry.connector.link import ConnectorProcess
    from skerry.connector.protocol import Assignment, ConnectorReport
    from skerry.connector.spec import known_kinds, open_connector, parse_connector, settings_of

__getattr__ = lazy(
    __name__,
    {
        "Assignment": "protocol",
        "Batch": "contract",
        "Connector": "contract",
        "ConnectorProcess": "link",
        "ConnectorReport": "protocol",
        "Message": "contract",
        "Outgoing": "contract",
        "Place": "contract",
        "Sink": "contract",
        "Source": "contract",
        "fault_of": "intake",
        "known_kinds": "spec",
        "open_connector": "spec",
        "parse_connector": "spec",
        "settings_of": "spec",
        "store": "intake",
    },
)

__all__ = [
    "Assignment", "Batch", "Connector", "ConnectorProcess", "ConnectorReport", "ConnectorSpec", "Message", "Outgoing", "Place",
    "Sink", "Source", "fault_of", "known_kinds", "open_connector", "parse_connector", "parse_connectors", "settings_of", "store",
]  # fmt: skip
