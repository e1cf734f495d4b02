"""Envelopes back into what was sent: events, samples and roll-ups, one record each. Pure."""

from collections.abc import Iterator
from typing import Any

import msgspec

from skerry.core.clock import to_rfc3339
from skerry.core.errors import CorruptError, RejectedError
from skerry.uplink.envelope import Header, read_envelope
from skerry.uplink.item import Item, Kind
from skerry.uplink.notice import decode_event
from skerry.uplink.table import AGGREGATES, MOST_NUMBERS, Table, decode_table, numbers_of

_LAST_TIME = 10**17  # as sources take them
_WIDTHS = {60: "1m", 3600: "1h"}


class Record(msgspec.Struct, frozen=True, gc=False):
    """One event, sample or roll-up.

    Attributes:
        node, site: who sent it. sequence: the number of its item: what came twice has the same. index: its place in the item.
        id: an event's own, else the item's with the index.
        key: the device. time: microseconds: an event's end, a sample's own time, a roll-up's start.
        values: an event's fields; a sample's values by name; of a roll-up count, min, max, sum, last and mean of each value.
        width: seconds of a roll-up, else 0.
    """

    node: str
    site: str
    sequence: int
    index: int
    id: str
    kind: Kind
    pipeline: str
    key: str
    time: int
    values: dict[str, Any]
    width: int = 0

    @property
    def topic(self) -> str:
        """Where it belongs below the sender's own topic: `events/<pipeline>/<key>`, `raw/…` or `1m/…`."""
        from skerry.pipeline import event_topic  # late: decoding needs nothing else of the pipelines

        level = {"event": "events", "raw": "raw"}.get(self.kind) or _WIDTHS.get(self.width, f"{self.width}s")
        return f"{level}/{event_topic(self.pipeline, self.key).partition('/')[2]}"

    @property
    def payload(self) -> bytes:
        """It as JSON; samples and roll-ups with their time as `ts` in Unix seconds, names with dots as objects in objects."""
        if self.kind == "event":
            return msgspec.json.encode(self.values)
        tree: dict[str, Any] = {"ts": self.time / 1e6}
        for name, value in self.values.items():
            _put(tree, name, value)
        return msgspec.json.encode(tree)


def decode(envelope: bytes) -> list[Record]:
    """What an envelope holds, in its order.

    Raises `RejectedError`, with a sentence, for what is no envelope, was cut off or changed, is of a newer version, or would take
    more memory than an envelope may.
    """
    found = read_envelope(envelope)
    left = MOST_NUMBERS
    records: list[Record] = []
    try:
        for number, item in found.items:
            left -= numbers_of(item)
            if left < 0:
                raise CorruptError(f"it holds more than {MOST_NUMBERS} numbers")
            if item.kind == "event":
                records.append(_event(found.header, number, item))
            else:
                records += _rows(found.header, number, item, decode_table(item.body))
    except CorruptError as error:
        raise RejectedError(f"the envelope cannot be read: {error}") from error
    return records


def _event(header: Header, number: int, item: Item) -> Record:
    _check_times(item.time, item.time)
    values = decode_event(item.id, item.pipeline, item.body)
    key = values.get("key", "")
    return Record(header.node, header.site, number, 0, item.id, "event", item.pipeline, key, item.time, values)


def _rows(header: Header, number: int, item: Item, table: Table) -> Iterator[Record]:
    columns = [column.tolist() for column in table.columns]
    times = table.times.tolist()
    _check_times(min(times), max(times))
    at = 0
    for key, count in zip(table.keys, table.counts, strict=True):
        for place in range(at, at + count):
            values = _values(table, columns, place)
            name = f"{item.id}.{place}"
            kind: Kind = "rollup" if table.width else "raw"
            yield Record(
                header.node, header.site, number, place, name, kind, item.pipeline, key, times[place], values, table.width
            )  # fmt: skip
        at += count


def _check_times(first: int, last: int) -> None:
    if not 0 <= first <= last < _LAST_TIME:
        raise CorruptError("a time lies before 1970 or after 5138")


def _values(table: Table, columns: list[list[float]], place: int) -> dict[str, Any]:
    if not table.width:
        return {name: column[place] for name, column in zip(table.names, columns, strict=True)}
    found = {}
    for at, name in enumerate(table.names):
        first = at * len(AGGREGATES)
        row = {each: columns[first + offset][place] for offset, each in enumerate(AGGREGATES)}
        found[name] = {**row, "count": int(row["count"]), "mean": row["sum"] / row["count"] if row["count"] else None}
    return found


def _put(tree: dict[str, Any], path: str, value: Any) -> None:
    *parents, leaf = path.split(".")
    for parent in parents:
        below = tree.setdefault(parent, {})
        if not isinstance(below, dict):
            tree[path] = value
            return
        tree = below
    tree[leaf] = value


def shown(record: Record) -> dict[str, Any]:
    """A record for people and JSON."""
    return {
        "kind": record.kind, "node": record.node, "site": record.site, "pipeline": record.pipeline, "key": record.key,
        "time": to_rfc3339(record.time), "sequence": record.sequence, "index": record.index, "topic": record.topic,
        "values": record.values,
    }  # fmt: skip
