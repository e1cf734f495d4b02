"""From messages of the log and events to samples, gathered by series. Pure.

A raw value's series is `<device>/<channel>/<value>`: the topic without `devices/` before it, and the value's field. Where a
pipeline's key comes out of the payload, the key stands between the two. An event's numbers are `<pipeline>/<key>/score` and
`<pipeline>/<key>/<feature>`.
"""

import math
from collections import Counter
from collections.abc import Callable, Iterable, Sequence

import msgspec

from skerry.broker import Frame, position
from skerry.core.clock import SECOND, from_rfc3339
from skerry.historian.numbers import numbers_of
from skerry.pipeline import (
    RETRY_PREFIX,
    WINDOW_HEADER,
    KeyTemplate,
    PipelineSpec,
    SourceSpec,
    Undecoded,
    decoder,
    filter_matches,
    payload_fields,
    topic_of,
)

LONGEST_NAME = 512
MOST_GATHERED = 1 << 19
_MOST_SUBJECTS = 100_000
_FUTURE = 60 * SECOND
_DEVICES, _EVENTS = "devices/", "events/"
_RETRY = RETRY_PREFIX.encode()
_WINDOW = WINDOW_HEADER + b"\r\n"


class Samples(msgspec.Struct, gc=False):
    """What came of one series: microseconds and values, in order of arrival; whether they are kept, or rolled up only."""

    times: list[int] = []
    values: list[float] = []
    kept: bool = True


class _Head(msgspec.Struct, gc=False):
    """What is kept of an event."""

    pipeline: str
    key: str
    end: str
    score: float | None = None
    features: dict[str, float | None] = {}


_head = msgspec.json.Decoder(_Head).decode
Reader = Callable[[bytes, int], None]
"""Takes one payload and its arrival in."""


class Intake:
    """Gathers samples until they are handed over; `passed_over` counts what gave none, by reason.

    Args:
        pipelines: those with a history sink; of several that read one field of a topic, the first one's sample counts.
        topics: filters of topics whose numbers are taken as they are.
        known: names of series that there are; with `most` of them there are no more.

    Attributes:
        thin: pipelines whose samples are not kept for now, in the roll-ups only.
    """

    def __init__(self, pipelines: Sequence[PipelineSpec], topics: Sequence[str], known: Iterable[str], most: int) -> None:
        self.gathered: dict[str, Samples] = {}
        self.count = 0
        self.passed_over: Counter[str] = Counter()
        self.thin: frozenset[str] = frozenset()
        self._pipelines = {spec.name for spec in pipelines}
        self._sources = [(spec.name, spec.source) for spec in pipelines if not spec.source.tensors]
        self._topics = list(topics)
        self._known = set(known)
        self._most = most
        self._readers: dict[bytes, list[Reader]] = {}

    def take(self, frames: list[Frame]) -> None:
        """Take in messages of the log; those for nobody cost one look-up."""
        readers = self._readers
        for frame in frames:
            mine = readers.get(frame[0])
            if mine is None:
                mine = self._route(frame[0])
            if mine and not frame[2].endswith(_WINDOW):
                arrival = position(frame[1]).arrival
                for read in mine:
                    read(frame[3], arrival)

    def take_events(self, frames: list[Frame]) -> None:
        """Take in events of the pipelines; of those that end in one millisecond each has a microsecond of its own."""
        for frame in frames:
            try:
                event = _head(frame[3])
                time = from_rfc3339(event.end) + position(frame[1]).stream % 1000
            except (msgspec.MsgspecError, ValueError):
                self.passed_over["undecodable"] += 1
                continue
            if event.pipeline in self._pipelines:
                for name, value in {"score": event.score, **event.features}.items():
                    if value is not None and math.isfinite(value):
                        self._put(f"{event.pipeline}/{event.key}/{name}", time, value, event.pipeline)

    def hand_over(self) -> dict[str, Samples]:
        """What was gathered; the next ones are gathered anew."""
        found, self.gathered, self.count = self.gathered, {}, 0
        return found

    def _put(self, name: str, time: int, value: float, pipeline: str = "") -> None:
        found = self.gathered.get(name)
        if found is None:
            if name not in self._known:
                if not self._new(name):
                    return
                self._known.add(name)
            found = self.gathered[name] = Samples([], [], pipeline not in self.thin)
        found.times.append(time)
        found.values.append(value)
        self.count += 1

    def _new(self, name: str) -> bool:
        if len(name.encode()) > LONGEST_NAME or "\0" in name:
            self.passed_over["name too long"] += 1
        elif len(self._known) >= self._most:
            self.passed_over["too many series"] += 1
        else:
            return True
        return False

    def _route(self, subject: bytes) -> list[Reader]:
        """Who reads messages of a subject; remembered."""
        topic = topic_of(subject)
        retried = subject.startswith(_RETRY)
        base = topic.removeprefix(_DEVICES)
        taken: set[str] = set()
        found: list[Reader] = []
        for pipeline, source in self._sources:
            # what is tried again without a time of its own would count as a second sample
            if filter_matches(source.topic, topic) and not topic.startswith(_EVENTS) and (source.time or not retried):
                reader = self._of_source(pipeline, source, topic, base, taken)
                found += [reader] if reader is not None else []
        if not retried and not topic.startswith(_EVENTS) and any(filter_matches(each, topic) for each in self._topics):
            found.append(self._of_topic(base, frozenset(taken)))
        if len(self._readers) >= _MOST_SUBJECTS:
            self._readers.clear()
        self._readers[subject] = found
        return found

    def _of_source(self, pipeline: str, source: SourceSpec, topic: str, base: str, taken: set[str]) -> Reader | None:
        template = KeyTemplate(source.key, source.topic)
        if template.from_topic(topic) is None:
            return None
        # a series is named by the topic alone, unless one topic serves many devices
        fields = template.fields
        columns = [(at + 1, name) for at, name in enumerate(source.names) if fields or name not in taken]
        taken.update(() if fields else source.names)
        if not columns:
            return None
        decode, latest, longest = decoder(source), source.max_future_us, source.max_payload_bytes
        whole = [(at, f"{base}/{name}") for at, name in columns]

        def read(payload: bytes, arrival: int) -> None:
            if len(payload) > longest:
                self.passed_over["oversized"] += 1
                return
            names = whole
            try:
                rows, _ = decode(payload)
                if fields:
                    names = [(at, f"{base}/{_key(source, template, topic, payload)}/{name}") for at, name in columns]
            except Undecoded as error:
                self.passed_over[error.reason] += 1
                return
            for row in rows:
                time = int(row[0]) if row[0] >= 0 else arrival + int(row[0]) + 1
                if time > arrival + latest:
                    self.passed_over["future"] += 1
                    continue
                for at, name in names:
                    self._put(name, time, row[at], pipeline)

        return read

    def _of_topic(self, base: str, taken: frozenset[str]) -> Reader:
        def read(payload: bytes, arrival: int) -> None:
            found = numbers_of(payload)
            if found is None:
                self.passed_over["undecodable"] += 1
                return
            for time, numbers in found:
                if time > arrival + _FUTURE:
                    self.passed_over["future"] += 1
                    continue
                for name, value in numbers.items():
                    if name not in taken:
                        self._put(f"{base}/{name}", time if time >= 0 else arrival, value)

        return read


def _key(source: SourceSpec, template: KeyTemplate, topic: str, payload: bytes) -> str:
    found = payload_fields(payload, source.format, template.fields)
    if found is None:
        raise Undecoded("unknown-key", "the payload has no key")
    key = template.from_topic(topic) or ""
    for field, text in zip(template.fields, found, strict=True):
        key = key.replace("{." + field + "}", text)
    return key
