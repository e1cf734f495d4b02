"""What would leave for some messages: the envelopes byte for byte, and what the centre makes of them. Pure."""

import base64
import json
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

from skerry.broker import Frame, position
from skerry.core.clock import SECOND, from_rfc3339
from skerry.core.errors import RejectedError
from skerry.core.ports import Scorer
from skerry.core.units import parse_size
from skerry.pipeline import PipelineSpec, frames_of, run_messages
from skerry.uplink.config import UplinkConfig
from skerry.uplink.envelope import encode_envelope, read_header
from skerry.uplink.gather import Gatherer
from skerry.uplink.item import PRIORITIES, Item
from skerry.uplink.records import Record, decode, shown
from skerry.uplink.table import MOST_NUMBERS, numbers_of

MOST_MESSAGES = 100_000
Message = tuple[str, bytes, int | None]
"""Topic, payload, arrival in microseconds or None where it is not known."""
_STEP = SECOND


class Preview(NamedTuple):
    """Envelopes as they would leave, in their order; what is in them; and what each rule saved and withheld."""

    envelopes: list[bytes]
    records: list[Record]
    counts: dict[str, Any]

    def show(self) -> dict[str, Any]:
        """For people and JSON; each envelope in base64."""
        rows = [_shown(envelope) for envelope in self.envelopes]
        total = sum(map(len, self.envelopes))
        return {"bytes": total, "envelopes": rows, "records": [shown(record) for record in self.records], **self.counts}


def preview_of(
    config: UplinkConfig, spec: PipelineSpec, scorer: Scorer | None, messages: Iterable[Message], who: tuple[str, str], key: bytes
) -> Preview:
    """What would leave of a pipeline for these messages, when nothing but they came; time ends with them.

    Args:
        who: node and site. key: the site's.

    Raises `RejectedError` where the pipeline sends nothing, or for more than 100,000 messages.
    """
    if not any(sink.kind == "uplink" for sink in spec.sinks):
        raise RejectedError("nothing of it leaves", where=f"pipeline {spec.name}", mend='add "uplink" to its sinks')
    given = list(messages)
    if len(given) > MOST_MESSAGES:
        raise RejectedError(f"{len(given)} messages are more than a sample", mend=f"give up to {MOST_MESSAGES}")
    events = run_messages(spec, scorer, who[0], iter(given))["events"]
    gatherer = Gatherer(config, [spec], key, "preview")
    items: list[Item] = []
    waiting = [(from_rfc3339(event["end"]), json.dumps(event).encode()) for event in events]
    for frames, until in _steps(list(frames_of(spec, given))):
        due = [payload for end, payload in waiting if end <= until]
        waiting = waiting[len(due) :]
        items += gatherer.feed(frames, [_frame(payload) for payload in due], until)
    items += gatherer.feed([], [_frame(payload) for _, payload in waiting], max((end for end, _ in waiting), default=0))
    items += gatherer.finish()
    envelopes = list(envelopes_of(config, items, who))
    return Preview(envelopes, [record for envelope in envelopes for record in decode(envelope)], gatherer.counts)


def envelopes_of(config: UplinkConfig, items: Sequence[Item], who: tuple[str, str]) -> Iterator[bytes]:
    """Items in envelopes, alarms first, each as large as the batches may be."""
    numbered = list(enumerate(items, start=1))
    most = parse_size(config.batch.bytes)
    for lane in PRIORITIES:
        batch: list[tuple[int, Item]] = []
        size = numbers = 0
        for number, item in numbered:
            if item.priority != lane:
                continue
            held = numbers_of(item)
            if batch and (len(batch) >= config.batch.messages or size + len(item.body) > most or numbers + held > MOST_NUMBERS):
                yield encode_envelope(*who, "preview", lane, batch, config.compression)
                batch, size, numbers = [], 0, 0
            batch.append((number, item))
            size += len(item.body)
            numbers += held
        if batch:
            yield encode_envelope(*who, "preview", lane, batch, config.compression)


def _steps(frames: list[Frame]) -> Iterator[tuple[list[Frame], int]]:
    """Frames as they would be read, about once a second, and when that is."""
    step: list[Frame] = []
    began = 0
    for frame in frames:
        arrival = position(frame[1]).arrival
        if step and arrival - began >= _STEP:
            yield step, position(step[-1][1]).arrival
            step = []
        began = began if step else arrival
        step.append(frame)
    if step:
        yield step, position(step[-1][1]).arrival


def _frame(payload: bytes) -> Frame:
    return b"", b"$JS.ACK.file.file.1.1.1.0.0", b"", payload


def _shown(envelope: bytes) -> dict[str, Any]:
    header = read_header(envelope)
    return {
        "priority": header.lane, "items": header.count, "bytes": len(envelope), "unpacked": header.size, "codec": header.codec,
        "base64": base64.b64encode(envelope).decode(),
    }  # fmt: skip
