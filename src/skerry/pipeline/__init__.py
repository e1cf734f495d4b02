"""Pipelines: what the configuration says, how a message becomes an event, and the state that a checkpoint keeps."""

from typing import TYPE_CHECKING

from skerry.core.lazy import lazy
from skerry.pipeline.forward import Around, Band, ForwardSpec, Level, check_levels
from skerry.pipeline.spec import PipelineSpec, SinkSpec, SourceSpec, parse_pipeline

if TYPE_CHECKING:
    from skerry.pipeline.checkpoint import BUCKET, CURSOR, CheckpointStore, begin_checkpoints, checkpoint_key, stored_cursors
    from skerry.pipeline.dataframe import frame_rows, is_frame
    from skerry.pipeline.decode import Undecoded, decoder, payload_fields
    from skerry.pipeline.drift import DRIFT_KEY, drift_report
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
    from skerry.pipeline.explanation import Contribution, Explanation
    from skerry.pipeline.letters import MOST_IDS, LetterFilter, look_inside
    from skerry.pipeline.occlusion import explain
    from skerry.pipeline.offline import frame_of, frames_of, read_messages, read_rows, run_file, run_messages
    from skerry.pipeline.partitions import parse_unit, unit_name
    from skerry.pipeline.picture import check_fits
    from skerry.pipeline.proposal import Proposal, propose
    from skerry.pipeline.relay import EventHead, Limits, MqttDelivery, Relay, deliveries
    from skerry.pipeline.runner import BATCH, Runner
    from skerry.pipeline.sampling import Probe, Sample, feed_followed, key_of_frame
    from skerry.pipeline.shed import Standing, is_scored, standing
    from skerry.pipeline.state import Ledger, PipelineState, books, decode_state, encode_state
    from skerry.pipeline.topics import (
        MAX_SUBJECT,
        MQTT_PREFIX,
        QOS0_PREFIX,
        RETRY_PREFIX,
        WINDOW_TAIL,
        KeyTemplate,
        check_filter,
        check_name,
        event_topic,
        filter_matches,
        key_token,
        may_match,
        subjects_of,
        topic_of,
    )
    from skerry.pipeline.trace import Trace

__getattr__ = lazy(
    __name__,
    {
        "BATCH": "runner",
        "BUCKET": "checkpoint",
        "CheckpointStore": "checkpoint",
        "Contribution": "explanation",
        "DEAD": "event",
        "DEAD_PREFIX": "event",
        "DRIFT_KEY": "drift",
        "DeadLetter": "event",
        "EVENTS": "event",
        "EVENTS_PREFIX": "event",
        "Event": "event",
        "Explanation": "explanation",
        "KeyTemplate": "topics",
        "Ledger": "state",
        "LetterFilter": "letters",
        "MAX_SUBJECT": "topics",
        "MOST_IDS": "letters",
        "MQTT_PREFIX": "topics",
        "Output": "event",
        "Proposal": "proposal",
        "PipelineState": "state",
        "QOS0_PREFIX": "topics",
        "RETRY_PREFIX": "topics",
        "Relay": "relay",
        "Runner": "runner",
        "Trace": "trace",
        "Undecoded": "decode",
        "WINDOW_HEADER": "event",
        "WINDOW_TAIL": "topics",
        "Standing": "shed",
        "begin_checkpoints": "checkpoint",
        "books": "state",
        "EventHead": "relay",
        "CURSOR": "checkpoint",
        "checkpoint_key": "checkpoint",
        "check_name": "topics",
        "may_match": "topics",
        "Limits": "relay",
        "MqttDelivery": "relay",
        "Probe": "sampling",
        "Sample": "sampling",
        "feed_followed": "sampling",
        "key_of_frame": "sampling",
        "check_filter": "topics",
        "check_fits": "picture",
        "decode_state": "state",
        "decoder": "decode",
        "deliveries": "relay",
        "drift_report": "drift",
        "encode_state": "state",
        "event_topic": "topics",
        "explain": "occlusion",
        "filter_matches": "topics",
        "frame_of": "offline",
        "frame_rows": "dataframe",
        "frames_of": "offline",
        "key_token": "topics",
        "letters_output": "event",
        "look_inside": "letters",
        "parse_unit": "partitions",
        "payload_fields": "decode",
        "propose": "proposal",
        "read_messages": "offline",
        "read_rows": "offline",
        "run_file": "offline",
        "run_messages": "offline",
        "is_frame": "dataframe",
        "is_scored": "shed",
        "show_letter": "event",
        "standing": "shed",
        "stored_cursors": "checkpoint",
        "subjects_of": "topics",
        "topic_level": "topics",
        "topic_of": "topics",
        "unit_name": "partitions",
        "unpack_letters": "event",
    },
)

__all__ = [
    "BATCH", "BUCKET", "CURSOR", "DEAD", "DEAD_PREFIX", "DRIFT_KEY", "EVENTS", "EVENTS_PREFIX", "MAX_SUBJECT", "MOST_IDS",
    "MQTT_PREFIX", "QOS0_PREFIX", "RETRY_PREFIX", "WINDOW_HEADER", "WINDOW_TAIL", "Around", "Band", "CheckpointStore",
    "Contribution", "DeadLetter", "Event", "EventHead", "Explanation", "ForwardSpec", "KeyTemplate", "Ledger", "LetterFilter",
    "Level", "Limits", "MqttDelivery", "Output", "PipelineSpec", "PipelineState", "Probe", "Proposal", "Relay", "Runner",
    "Sample", "SinkSpec", "SourceSpec", "Standing", "Trace", "Undecoded", "begin_checkpoints", "books", "check_filter",
    "check_fits", "check_levels", "check_name", "checkpoint_key", "decode_state", "decoder", "deliveries", "drift_report",
    "encode_state", "event_topic", "explain", "feed_followed", "filter_matches", "frame_of", "frame_rows", "frames_of",
    "is_frame", "is_scored", "key_of_frame", "key_token", "letters_output", "look_inside", "may_match", "parse_pipeline",
    "parse_unit", "payload_fields", "propose", "read_messages", "read_rows", "run_file", "run_messages", "show_letter",
    "standing", "stored_cursors", "subjects_of", "topic_level", "topic_of", "unit_name", "unpack_letters",
]  # fmt: skip
