"""The broker and the log: nats-server as a child, its clients, streams and log-in call-out."""

from skerry.broker.jetstream import Stored, api, kv_get, kv_put, read_page
from skerry.broker.reader import LOG, LogReader, Position, position
from skerry.broker.subjects import to_subject, to_topic
from skerry.broker.wire import Frame, WireClient, header_fields

__all__ = [
    "LOG", "Frame", "LogReader", "Position", "Stored", "WireClient", "api", "header_fields", "kv_get", "kv_put", "position",
    "read_page", "to_subject", "to_topic",
]  # fmt: skip
