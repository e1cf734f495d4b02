"""One pipeline's way to the link: its messages become rows without what is withheld, and the rows items. Pure."""

from collections.abc import Callable

import msgspec

from skerry.broker import Frame
from skerry.core.clock import SECOND, from_rfc3339
from skerry.core.units import parse_duration
from skerry.pipeline import (
    ForwardSpec,
    KeyTemplate,
    Level,
    PipelineSpec,
    Undecoded,
    decoder,
    filter_matches,
    payload_fields,
    topic_of,
)
from skerry.uplink.around import AroundState, Kept, Ring
from skerry.uplink.counts import Counts
from skerry.uplink.item import Item, Kind, Priority
from skerry.uplink.notice import Known, encode_event
from skerry.uplink.redact import Fields, Privacy
from skerry.uplink.sieve import Row, Sieve, SieveState, size_of
from skerry.uplink.stretches import Stretch, Stretches, added
from skerry.uplink.table import AGGREGATES, MOST_NUMBERS, Rows, encode_rows

ROOM = 6 * 1024 * 1024
"""Bytes that all pipelines' state may take in a checkpoint, which is one message of the broker (8 MB)."""
_WIDTHS: tuple[Level, ...] = ("1m", "1h")
_EVENTS = "events/"
_MOST_NUMBERS = MOST_NUMBERS // 4
_MOST_TOPICS = 100_000


class FlowState(msgspec.Struct):
    """What a checkpoint keeps of a flow: rows by device as they will leave, and what decides about the next ones."""

    rows: Rows = {}
    since: int = 0
    cost: int = 0
    made: int = 0
    sieve: SieveState = msgspec.field(default_factory=SieveState)
    around: AroundState = msgspec.field(default_factory=AroundState)
    stretches: dict[Level, dict[int, Stretch]] = {}
    rolled: int = 0
    counts: Counts = msgspec.field(default_factory=Counts)


class Flow:
    """What leaves of one pipeline.

    Args:
        select: what leaves where the sink does not say.
        most, delay: rows of an item of raw samples, and how long (microseconds) they are gathered.
        born: makes the ids of its items differ from those of an earlier life.
        room: bytes that its state may take.
    """

    def __init__(
        self, spec: PipelineSpec, select: tuple[Level, ...], privacy: Privacy, most: int, delay: int, born: str, room: int = ROOM
    ) -> None:
        forward = next((sink.forward for sink in spec.sinks if sink.kind == "uplink"), None) or ForwardSpec()
        self.name = spec.name
        self.state = FlowState()
        self._select = forward.levels(select, spec.source.tensors)
        self._fields = Fields(spec, privacy)
        self._source = spec.source
        self._born = born
        self._delay = delay
        self._columns = [
            (at + 1, name, action)
            for at, (name, action) in enumerate(zip(spec.source.names, self._fields.values, strict=True))
            if action is None or not action.drops
        ]
        self._withheld = [action for action in self._fields.values if action is not None]
        self._names = tuple(name for _, name, _ in self._columns)
        # half of the room for roll-ups, an eighth for what waits to be sent, the rest for what decides about samples
        self._most = max(1, min(most, _MOST_NUMBERS // (1 + len(self._names)), room // 8 // size_of("", 1 + len(self._names))))
        self._sieve = Sieve(forward, self._names, room // 8)
        around = forward.around
        self._ring = None if around is None else Ring(parse_duration(around.before), parse_duration(around.after), room // 4)
        lateness = parse_duration(spec.window.lateness)
        levels = [level for level in _WIDTHS if level in self._select]
        self._stretches = {level: Stretches(parse_duration(level), lateness, room // 2 // len(levels)) for level in levels}
        self.reads_log = bool(self._stretches) or "raw" in self._select or self._ring is not None
        self._reader = self._make_reader() if self.reads_log else None

    @property
    def full(self) -> dict[str, int]:
        """How often a bound of the room was reached since the start."""
        early = sum(stretches.early for stretches in self._stretches.values())
        kept = self._ring.early if self._ring is not None else 0
        return {"roll-ups early": early, "samples not kept": kept, "devices forgotten": self._sieve.forgotten}

    @property
    def waiting(self) -> int:
        """Bytes of messages whose samples are not yet in an item."""
        return self.state.cost + self.state.rolled + (0 if self._ring is None else self._ring.cost)

    def reads(self, topic: str) -> bool:
        """Whether messages on a topic are its source's."""
        return filter_matches(self._source.topic, topic) and not topic.startswith(_EVENTS)

    def take(self, frame: Frame, now: int) -> None:
        """Take one message of its source in; `now` is its arrival."""
        assert self._reader is not None
        counts, payload = self.state.counts, frame[3]
        counts.messages += 1
        counts.bytes_in += len(payload)
        try:
            key, rows = self._reader(frame, now)
        except Undecoded as error:
            counts.pass_over(error.reason, len(payload))
            return
        cost, rest = divmod(len(payload), len(rows))
        for row in rows:
            self._take_row(key, row, cost + rest, now)
            rest = 0

    def take_event(self, event: Known, now: int) -> list[Item]:
        """Take one of its events in."""
        start, end = from_rfc3339(event.start), from_rfc3339(event.end)
        if self._ring is not None and event.state == "firing":
            for kept in self._ring.alarm(event.key, start, end):
                self._open(kept.key, kept.row, kept.cost, now)
        if "event" not in self._select:
            return []
        priority: Priority = "normal" if event.state == "info" else "alarm"
        if "features" not in self._select:
            event = msgspec.structs.replace(event, features={})
        body = encode_event(event, self._fields)
        self.state.counts.put("event", len(body))
        return [Item("event", priority, self._fields.shown_id(event.id), self.name, end, 1, body)]

    def due(self, now: int, last: bool = False) -> list[Item]:
        """The items that are ready; with `last` all that there is becomes some."""
        if self._ring is not None:
            for kept in self._ring.expired(now):
                self._give_up(kept)
        items = []
        state = self.state
        if state.rows and (last or sum(map(len, state.rows.values())) >= self._most or now >= state.since + self._delay):
            items += self._raw_items()
        for stretches in self._stretches.values():
            for rows in stretches.close() if last else stretches.due(now):
                items += self._rollup_items(rows, stretches.width)
        return items

    def snapshot(self) -> FlowState:
        """What a checkpoint keeps."""
        self.state.sieve = self._sieve.state
        self.state.stretches = {level: stretches.state for level, stretches in self._stretches.items()}
        if self._ring is not None:
            self.state.around = self._ring.state
        return self.state

    def restore(self, state: FlowState) -> None:
        """Go on where a checkpoint was made."""
        self.state = state
        self._sieve.state = state.sieve
        if self._ring is not None:
            self._ring.state = state.around
        for level, stretches in self._stretches.items():
            stretches.restore(state.stretches.get(level, {}))

    def _make_reader(self) -> Callable[[Frame, int], tuple[str, list[Row]]]:
        source = self._source
        decode, template = decoder(source), KeyTemplate(source.key, source.topic)
        longest, latest = source.max_payload_bytes, source.max_future_us
        keys: dict[bytes, str] = {}

        def read(frame: Frame, arrival: int) -> tuple[str, list[Row]]:
            payload = frame[3]
            if len(payload) > longest:
                raise Undecoded("oversized", "")
            key = keys.get(frame[0])
            if key is None:
                found = template.from_topic(topic_of(frame[0]))
                if found is None:
                    raise Undecoded("unknown-key", "")
                if len(keys) >= _MOST_TOPICS:
                    keys.clear()
                key = keys[frame[0]] = found
            rows, _ = decode(payload)
            if template.fields:
                texts = payload_fields(payload, source.format, template.fields)
                if texts is None:
                    raise Undecoded("unknown-key", "")
                for field, text in zip(template.fields, texts, strict=True):
                    key = key.replace("{." + field + "}", text)
            timed = [row if row[0] >= 0 else (float(arrival + int(row[0]) + 1), *row[1:]) for row in rows]
            if any(row[0] > arrival + latest for row in timed):
                raise Undecoded("future", "")
            return key, timed

        return read

    def _take_row(self, key: str, whole: Row, cost: int, now: int) -> None:
        counts = self.state.counts
        for action in self._withheld:
            self._fields.withhold(action)
        if not self._columns:
            counts.save("redact", cost)
            return
        row: Row = (whole[0], *(whole[at] if action is None else action.number(whole[at]) for at, _, action in self._columns))
        for stretches in self._stretches.values():
            stretches.add(key, row, now)
        if "raw" in self._select:
            self._sift(key, row, cost, now)
        elif self._ring is not None:
            if self._ring.wants(key, row[0]):
                self._open(key, row, cost, now)
            else:
                for oldest in self._ring.keep(Kept(key, row, cost, now)):
                    self._give_up(oldest)
        elif self._stretches:
            self.state.rolled += cost
        else:
            counts.save("select", cost)

    def _sift(self, key: str, row: Row, cost: int, now: int) -> None:
        rule = self._sieve.holds_back(key, row)
        if rule:
            self.state.counts.save(rule, cost)
        else:
            self._open(key, row, cost, now)

    def _open(self, key: str, row: Row, cost: int, now: int) -> None:
        state = self.state
        if not state.rows:
            state.since = now
        state.rows.setdefault(key, []).append(row)
        state.cost += cost

    def _give_up(self, kept: Kept) -> None:
        self.state.counts.save("around", kept.cost)

    def _raw_items(self) -> list[Item]:
        state = self.state
        rows, state.rows = state.rows, {}
        items = self._items("raw", "bulk", rows, self._names, 0)
        state.counts.save("pack", state.cost - sum(len(item.body) for item in items))
        state.cost = 0
        return items

    def _rollup_items(self, rows: Rows, width: int) -> list[Item]:
        items = self._items("rollup", "normal", rows, self._names, width // SECOND)
        self.state.counts.save("rollup", self.state.rolled - sum(len(item.body) for item in items))
        self.state.rolled = 0
        return items

    def _items(self, kind: Kind, priority: Priority, rows: Rows, names: tuple[str, ...], width: int) -> list[Item]:
        shown = self._shown(rows, width)
        columns = len(names) * (len(AGGREGATES) if width else 1)
        most = max(1, _MOST_NUMBERS // (1 + columns)) if width else self._most
        items = []
        for part in _parts(shown, most):
            body = encode_rows(part, names, width)
            self.state.made += 1
            self.state.counts.put(kind, len(body))
            newest = max(int(row[0]) for found in part.values() for row in found)
            size = sum(map(len, part.values()))
            name = f"{self._born}.{self.name}.{self.state.made:x}"
            items.append(Item(kind, priority, name, self.name, newest, size, body))
        return items

    def _shown(self, rows: Rows, width: int) -> Rows:
        """Rows by the device as it leaves; where several have become one, nothing tells them apart any more."""
        if self._fields.key is None:
            return rows
        shown: Rows = {}
        for key, found in rows.items():
            shown.setdefault(self._fields.shown_key(key), []).extend(found)
        if len(shown) < len(rows):
            return {key: _added(found) if width else sorted(found) for key, found in shown.items()}
        return shown


def _added(rows: list[Row]) -> list[Row]:
    """Roll-ups of several devices as those of one."""
    found: dict[float, list[float]] = {}
    for start, *row in rows:
        found[start] = added(found[start], row) if start in found else row
    return [(start, *row) for start, row in found.items()]


def _parts(rows: Rows, most: int) -> list[Rows]:
    """The rows in parts of at most so many."""
    parts: list[Rows] = [{}]
    room = most
    for key, found in rows.items():
        at = 0
        while at < len(found):
            if not room:
                parts.append({})
                room = most
            piece = found[at : at + room]
            parts[-1][key] = piece
            at += len(piece)
            room -= len(piece)
    return [part for part in parts if part]
