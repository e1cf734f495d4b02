"""The broker and the log: nats-server as a child, its clients, streams and log-in call-out."""

from typing import TYPE_CHECKING

from skerry.broker.config import BrokerConfig, parse_address
from skerry.broker.subjects import to_subject, to_topic
from skerry.core.lazy import lazy

if TYPE_CHECKING:
    from skerry.broker.callout import Callout
    from skerry.broker.claims import ConnectRequest, Decision, Grant, Refusal
    from skerry.broker.connections import kick
    from skerry.broker.jetstream import Stored, api, kv_get, kv_put, read_page
    from skerry.broker.reader import LOG, LogReader, Position, position
    from skerry.broker.server import NatsServer
    from skerry.broker.streams import (
        MIB,
        Bucket,
        StreamPlan,
        bucket_plan,
        ensure,
        fill_to,
        log_plan,
        sequence_at,
        session_floor,
        stream_state,
        trim,
    )
    from skerry.broker.wire import Frame, WireClient, header_fields

__getattr__ = lazy(
    __name__,
    {
        "Bucket": "streams",
        "Callout": "callout",
        "ConnectRequest": "claims",
        "Decision": "claims",
        "Frame": "wire",
        "Grant": "claims",
        "LOG": "reader",
        "LogReader": "reader",
        "MIB": "streams",
        "NatsServer": "server",
        "Position": "reader",
        "Refusal": "claims",
        "Stored": "jetstream",
        "StreamPlan": "streams",
        "WireClient": "wire",
        "api": "jetstream",
        "bucket_plan": "streams",
        "ensure": "streams",
        "fill_to": "streams",
        "header_fields": "wire",
        "kick": "connections",
        "kv_get": "jetstream",
        "kv_put": "jetstream",
        "log_plan": "streams",
        "position": "reader",
        "read_page": "jetstream",
        "sequence_at": "streams",
        "session_floor": "streams",
        "stream_state": "streams",
        "trim": "streams",
    },
)

__all__ = [
    "LOG", "MIB", "BrokerConfig", "Bucket", "Callout", "ConnectRequest", "Decision", "Frame", "Grant", "LogReader",
    "NatsServer", "Position", "Refusal", "Stored", "StreamPlan", "WireClient", "api", "bucket_plan", "ensure", "fill_to",
    "header_fields", "kick", "kv_get", "kv_put", "log_plan", "parse_address", "position", "read_page", "sequence_at",
    "session_floor", "stream_state", "to_subject", "to_topic", "trim",
]  # fmt: skip
