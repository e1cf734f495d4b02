"""Pipelines: what the configuration says, how a message becomes an event, and the state that a checkpoint keeps."""

from skerry.pipeline.checkpoint import BUCKET, CheckpointStore, stored_cursors
from skerry.pipeline.event import (
    DEAD,
    DEAD_PREFIX,
    EVENTS,
    EVENTS_PREFIX,
    DeadLetter,
    Event,
    Output,
    unpack_letters,
)  # fmt: skip
from skerry.pipeline.offline import run_file, run_messages, show_letter
from skerry.pipeline.relay import Relay, deliveries
from skerry.pipeline.runner import BATCH, WINDOW_HEADER, Runner, Trace
from skerry.pipeline.spec import PipelineSpec, SinkSpec, parse_pipeline
from skerry.pipeline.state import Ledger, PipelineState, books, decode_state, encode_state
from skerry.pipeline.topics import (
    MQTT_PREFIX,
    QOS0_PREFIX,
    RETRY_PREFIX,
    event_topic,
    filter_matches,
    key_token,
    log_subjects,
    topic_of,
)  # fmt: skip

__all__ = [
    "BATCH", "BUCKET", "DEAD", "DEAD_PREFIX", "EVENTS", "EVENTS_PREFIX", "MQTT_PREFIX", "QOS0_PREFIX", "RETRY_PREFIX",
    "WINDOW_HEADER", "CheckpointStore", "DeadLetter", "Event", "Ledger", "Output", "PipelineSpec", "PipelineState", "Relay", "Runner", "SinkSpec",
    "Trace", "books", "decode_state", "deliveries", "encode_state", "event_topic", "filter_matches", "key_token", "log_subjects",
    "parse_pipeline", "run_file", "run_messages", "show_letter", "stored_cursors", "topic_of", "unpack_letters",
]  # fmt: skip
