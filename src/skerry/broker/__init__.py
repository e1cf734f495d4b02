"""The broker and the log: nats-server as a child, its clients, streams and log-in call-out."""

from skerry.broker.callout import Callout
from skerry.broker.claims import ConnectRequest, Decision, Grant, Refusal
from skerry.broker.config import BrokerConfig, parse_address
from skerry.broker.jetstream import Stored, api, kv_get, kv_put, read_page
from skerry.broker.kick import kick
from skerry.broker.reader import LOG, LogReader, Position, position
from skerry.broker.server import NatsServer
from skerry.broker.streams import (
    MIB, Bucket, StreamPlan, bucket_plan, ensure, fill_to, log_plan, sequence_at, session_floor, stream_state, trim,
)  # fmt: skip
from skerry.broker.subjects import to_subject, to_topic
from skerry.broker.wire import Frame, WireClient, header_fields

__all__ = [
    "LOG", "MIB", "BrokerConfig", "Bucket", "Callout", "ConnectRequest", "Decision", "Frame", "Grant", "LogReader", "NatsServer",
    "Position", "Refusal", "Stored", "StreamPlan", "WireClient", "api", "bucket_plan", "ensure", "fill_to", "header_fields", "kick",
    "kv_get", "kv_put", "log_plan", "parse_address", "position", "read_page", "sequence_at", "session_floor", "stream_state",
    "to_subject", "to_topic", "trim",
]  # fmt: skip
