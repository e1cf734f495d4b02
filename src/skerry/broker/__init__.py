"""The broker and the log: nats-server as a child, its clients, streams and log-in call-out."""

from typing import TYPE_CHECKING

from skerry.broker.config import AGENT, BrokerConfig, parse_address
from skerry.broker.routes import ALONE, Place, Routes
from skerry.broker.subjects import to_subject, to_topic
from skerry.core.lazy import lazy

if TYPE_CHECKING:
    from skerry.broker.binary import find_binary
    from skerry.broker.callers import Callers
    from skerry.broker.callout import Callout
    from skerry.broker.claims import ConnectRequest, Decision, Grant, Refusal
    from skerry.broker.connections import Connections, Presence
    from skerry.broker.crowding import SHARE, end_crowding
    from skerry.broker.growth import SavedStream, load_streams, save_streams, saved_streams, whole
    from skerry.broker.jetstream import Stored, api, ends, kv_entry, kv_get, kv_put, read_page, store_all
    from skerry.broker.kept import Kept, read_kept
    from skerry.broker.reader import LOG, LogReader, Position, position
    from skerry.broker.remote import Login, RemoteClient
    from skerry.broker.server import NatsServer
    from skerry.broker.server_log import Violation
    from skerry.broker.snapshot import restore_stream, stream_names, take_snapshot
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
    from skerry.broker.tls_port import TlsPort
    from skerry.broker.unreadable import push_out
    from skerry.broker.wire import Frame, WireClient, header_fields

__getattr__ = lazy(
    __name__,
    {
        "Bucket": "streams",
        "Callers": "callers",
        "Callout": "callout",
        "Connections": "connections",
        "Presence": "connections",
        "ConnectRequest": "claims",
        "Decision": "claims",
        "Frame": "wire",
        "Grant": "claims",
        "Kept": "kept",
        "LOG": "reader",
        "LogReader": "reader",
        "MIB": "streams",
        "NatsServer": "server",
        "Login": "remote",
        "Position": "reader",
        "Refusal": "claims",
        "RemoteClient": "remote",
        "SHARE": "crowding",
        "SavedStream": "growth",
        "Stored": "jetstream",
        "StreamPlan": "streams",
        "TlsPort": "tls_port",
        "Violation": "server_log",
        "WireClient": "wire",
        "api": "jetstream",
        "bucket_plan": "streams",
        "end_crowding": "crowding",
        "ends": "jetstream",
        "ensure": "streams",
        "fill_to": "streams",
        "find_binary": "binary",
        "header_fields": "wire",
        "kv_entry": "jetstream",
        "kv_get": "jetstream",
        "kv_put": "jetstream",
        "load_streams": "growth",
        "log_plan": "streams",
        "position": "reader",
        "push_out": "unreadable",
        "read_kept": "kept",
        "read_page": "jetstream",
        "restore_stream": "snapshot",
        "save_streams": "growth",
        "saved_streams": "growth",
        "sequence_at": "streams",
        "session_floor": "streams",
        "store_all": "jetstream",
        "stream_names": "snapshot",
        "stream_state": "streams",
        "take_snapshot": "snapshot",
        "trim": "streams",
        "whole": "growth",
    },
)

__all__ = [
    "AGENT", "ALONE", "LOG", "MIB", "SHARE", "BrokerConfig", "Bucket", "Callers", "Callout", "ConnectRequest", "Connections",
    "Decision", "Frame", "Grant", "Kept", "LogReader", "Login", "NatsServer", "Place", "Position", "Presence", "Refusal",
    "RemoteClient", "Routes", "SavedStream", "Stored", "StreamPlan", "TlsPort", "Violation", "WireClient", "api", "bucket_plan",
    "end_crowding", "ends", "ensure", "fill_to", "find_binary", "header_fields", "kv_entry", "kv_get", "kv_put", "load_streams",
    "log_plan",
    "parse_address", "position", "push_out", "read_kept", "read_page", "restore_stream", "save_streams", "saved_streams",
    "sequence_at", "session_floor", "store_all", "stream_names", "stream_state", "take_snapshot", "to_subject", "to_topic",
    "trim", "whole",
]  # fmt: skip
