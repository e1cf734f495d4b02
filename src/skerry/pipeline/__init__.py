"""Pipelines: what the configuration says, how a message becomes an event, and the state that a checkpoint keeps."""

from typing import TYPE_CHECKING

from skerry.core.lazy import lazy
from skerry.pipeline.spec import PipelineSpec, SinkSpec, parse_pipeline

if TYPE_CHECKING:
    from skerry.pipeline.checkpoint import BUCKET, CheckpointStore, begin_checkpoints, stored_cursors
    from skerry.pipeline.event import (
        DEAD,
        DEAD_PREFIX,
        EVENTS,
        EVENTS_PREFIX,
        WINDOW_HEADER,
        DeadLetter,
        Event,
        Output,
        letters_output,
        show_letter,
        unpack_letters,
    )
    from skerry.pipeline.offline import read_messages, read_rows, run_file, run_messages
    from skerry.pipeline.relay import Relay, deliveries
    from skerry.pipeline.runner import BATCH, Runner
    from skerry.pipeline.state import Ledger, PipelineState, books, decode_state, encode_state
    from skerry.pipeline.topics import (
        MAX_SUBJECT,
        MQTT_PREFIX,
        QOS0_PREFIX,
        RETRY_PREFIX,
        WINDOW_TAIL,
        event_topic,
        filter_matches,
        key_token,
        log_subjects,
        topic_of,
    )
    from skerry.pipeline.trace import Trace

__getattr__ = lazy(
    __name__,
    {
        "BATCH": "runner",
        "BUCKET": "checkpoint",
        "CheckpointStore": "checkpoint",
        "DEAD": "event",
        "DEAD_PREFIX": "event",
        "DeadLetter": "event",
        "EVENTS": "event",
        "EVENTS_PREFIX": "event",
        "Event": "event",
        "Ledger": "state",
        "MAX_SUBJECT": "topics",
        "MQTT_PREFIX": "topics",
        "Output": "event",
        "PipelineState": "state",
        "QOS0_PREFIX": "topics",
        "RETRY_PREFIX": "topics",
        "Relay": "relay",
        "Runner": "runner",
        "Trace": "trace",
        "WINDOW_HEADER": "event",
        "WINDOW_TAIL": "topics",
        "begin_checkpoints": "checkpoint",
        "books": "state",
        "decode_state": "state",
        "deliveries": "relay",
        "encode_state": "state",
        "event_topic": "topics",
        "filter_matches": "topics",
        "key_token": "topics",
        "letters_output": "event",
        "log_subjects": "topics",
        "read_messages": "offline",
        "read_rows": "offline",
        "run_file": "offline",
        "run_messages": "offline",
        "show_letter": "event",
        "stored_cursors": "checkpoint",
        "topic_of": "topics",
        "unpack_letters": "event",
    },
)

__all__ = [
    "BATCH", "BUCKET", "DEAD", "DEAD_PREFIX", "EVENTS", "EVENTS_PREFIX", "MAX_SUBJECT", "MQTT_PREFIX", "QOS0_PREFIX",
    "RETRY_PREFIX", "WINDOW_HEADER", "WINDOW_TAIL", "CheckpointStore", "DeadLetter", "Event", "Ledger", "Output", "PipelineSpec",
    "PipelineState", "Relay", "Runner", "SinkSpec", "Trace", "begin_checkpoints", "books", "decode_state", "deliveries",
    "encode_state", "event_topic", "filter_matches", "key_token", "letters_output", "log_subjects", "parse_pipeline",
    "read_messages", "read_rows", "run_file", "run_messages", "show_letter", "stored_cursors", "topic_of", "unpack_letters",
]  # fmt: skip
