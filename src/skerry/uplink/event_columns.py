"""Events of an envelope as columns, and their ids, which can be computed. Pure.

An event's id is the first 12 bytes of BLAKE2b of what it is about, and so is its alarm's. Who packs tries that: an id of any
other making (a hash with the site's key) stands there in full.
"""

import hashlib
import struct
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import islice
from typing import Annotated, Any

import msgspec

from skerry.core.errors import CorruptError
from skerry.uplink.columns import Most, Whole, column, spread
from skerry.uplink.item import Item
from skerry.uplink.short import Number, PackedFeatures

_WORDS = {"firing": 0, "cleared": 1, "info": 2, "warning": 3, "critical": 4}
_TEXTS = {code: word for word, code in _WORDS.items()}
_SENDER = 0
_WINDOWS = 4
"""Windows that begin and end together are numbered: so many are tried."""
_OF_START = 0
_AS_TEXT = b"\xff"

_MOST_NUMBERS = 1 << 18

Name = str | None
Names = Name | Most[Name]
Text = int | str | None
Texts = Text | Most[Text]
"""A text, or what stands for it: a word that is often there, the sender's name."""
Id = int | bytes | None
Ids = Id | Most[Id]
"""The bytes of its hex digits, text behind a byte that those do not begin with, or how it is computed."""
Amount = int | float | None
Amounts = Amount | Most[Amount]
Label = str | int | float | None
Score = int | float | bytes | None
"""Four bytes: a number of single precision."""


class Body(msgspec.Struct, array_like=True, forbid_unknown_fields=True, gc=False):
    """An event's body as `skerry.uplink.notice` writes it."""

    withheld: int
    start: int
    end: int
    key: str | None
    node: str | None
    count: Amount
    score: Amount
    label: Label
    state: str | None
    severity: str | None
    features: PackedFeatures
    model: str | None
    version: str | None
    latency_ms: Amount
    alarm_id: str | None
    flaps: Amount


class EventColumns(msgspec.Struct, array_like=True, gc=False):
    """As they are written.

    Attributes:
        lasted: end less start. late: the item's time less the end. Both in milliseconds.
        alarm_id: 0: computed from the start; n: that of the n-th event before; else as an id.
        names: each pair of names of values and of kinds that features have. named: which of them. numbers: of all events.
    """

    withheld: Whole
    lasted: Whole
    late: Whole
    key: Names
    node: Texts
    count: Amounts
    score: Score | Most[Score]
    label: Label | Most[Label]
    state: Texts
    severity: Texts
    model: Names
    version: Names
    latency_ms: Amounts
    alarm_id: Ids
    flaps: Amounts
    names: Most[tuple[list[str], list[str]]]
    named: Whole
    numbers: Annotated[list[Number], msgspec.Meta(max_length=_MOST_NUMBERS)]


_read = msgspec.msgpack.Decoder(Body).decode
_encode = msgspec.msgpack.Encoder().encode
_ONE_EACH = [field for field in EventColumns.__struct_fields__ if field not in ("names", "numbers")]
Row = Callable[[str, int], Body]
"""A body by its pipeline and its item's time."""


def body_of(item: Item) -> Body | None:
    """The body of an event; None for what is none, and for one of another form, which goes as it is."""
    if item.kind != "event":
        return None
    try:
        body = _read(item.body)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None
    values, kinds, numbers = body.features
    whole = len(values) * (len(kinds) or 1) == len(numbers) and _encode(body) == item.body
    return body if whole else None


def columns_of(events: Sequence[tuple[Item, Body]], node: str) -> EventColumns:
    """Bodies as they are written; `node` is the sender."""
    bodies = [body for _, body in events]
    names: dict[tuple[tuple[str, ...], tuple[str, ...]], int] = {}
    named = [names.setdefault((tuple(body.features[0]), tuple(body.features[1])), len(names)) for body in bodies]
    return EventColumns(
        withheld=column([body.withheld for body in bodies]),
        lasted=column([body.end - body.start for body in bodies]),
        late=column([item.time // 1000 - body.end for item, body in events]),
        key=column([body.key for body in bodies]),
        node=column([_SENDER if body.node == node else body.node for body in bodies]),
        count=column([body.count for body in bodies]),
        score=column([_single(body.score) for body in bodies]),
        label=column([body.label for body in bodies]),
        state=column([_word(body.state) for body in bodies]),
        severity=column([_word(body.severity) for body in bodies]),
        model=column([body.model for body in bodies]),
        version=column([body.version for body in bodies]),
        latency_ms=column([body.latency_ms for body in bodies]),
        alarm_id=column(_short_alarms(events)),
        flaps=column([body.flaps for body in bodies]),
        names=[(list(values), list(kinds)) for values, kinds in names],
        named=column(named),
        numbers=[number for body in bodies for number in body.features[2]],
    )


def rows_of(found: EventColumns | None, count: int, node: str) -> Iterator[Row]:
    """So many bodies, in their order. Raises `CorruptError` for what does not fit together."""
    if found is None:
        return
    columns = {field: spread(getattr(found, field), count) for field in _ONE_EACH}
    alarms: list[str | None] = []
    numbers = iter(found.numbers)
    for at in range(count):
        yield partial(_row, {field: values[at] for field, values in columns.items()}, found.names, numbers, alarms, node)
    if next(numbers, None) is not None:
        raise CorruptError("it holds more numbers than its events have")


def _row(
    one: dict[str, Any], names: Sequence[tuple[list[str], list[str]]], numbers: Iterator[Number], alarms: list[str | None],
    node: str, pipeline: str, time: int,
) -> Body:  # fmt: skip
    """One body; its alarm is put behind those of the events before."""
    values, kinds = names[one.pop("named")]
    alarm, end = one.pop("alarm_id"), time // 1000 - one.pop("late")
    mine = list(islice(numbers, len(values) * (len(kinds) or 1)))
    one |= {
        "node": node if one["node"] == _SENDER else one["node"], "score": _double(one["score"]),
        "state": _text(one["state"]), "severity": _text(one["severity"]),
    }  # fmt: skip
    body = Body(start=end - one.pop("lasted"), end=end, features=(values, kinds, mine), alarm_id=None, **one)
    body.alarm_id = _long_alarm(alarm, pipeline, body, alarms)
    alarms.append(body.alarm_id)
    return body


def short_id(item: Item, body: Body | None) -> Id:
    """An item's id as it is written."""
    if body is not None:
        for number in range(_WINDOWS):
            if item.id == _event_id(item.pipeline, body, number):
                return number
    return _binary(item.id)


def long_id(identity: Id, pipeline: str, body: Body | None) -> str:
    """The id that was written. Raises `CorruptError`."""
    if isinstance(identity, int) and body is not None:
        return _event_id(pipeline, body, identity)
    if not isinstance(identity, bytes):
        raise CorruptError(f"{identity} is no id")
    return _hexadecimal(identity)


def _event_id(pipeline: str, body: Body, number: int) -> str:
    start, end = body.start * 1000, body.end * 1000
    return _computed(pipeline, body.key or "", str(start), str(end), str(number), body.state or "")


def _alarm_id(pipeline: str, body: Body) -> str:
    return _computed(pipeline, body.key or "", "alarm", str(body.start * 1000))


def _computed(*parts: str) -> str:
    return hashlib.blake2b("\0".join(parts).encode(), digest_size=12).hexdigest()


def _short_alarms(events: Sequence[tuple[Item, Body]]) -> list[Id]:
    found: list[Id] = []
    last: dict[str, int] = {}
    for at, (item, body) in enumerate(events):
        identity = body.alarm_id
        if identity is None:
            found.append(None)
            continue
        if identity in last:
            found.append(at - last[identity])
        else:
            found.append(_OF_START if identity == _alarm_id(item.pipeline, body) else _binary(identity))
        last[identity] = at
    return found


def _long_alarm(written: Id, pipeline: str, body: Body, before: Sequence[str | None]) -> str | None:
    if written is None:
        return None
    if not isinstance(written, int):
        return _hexadecimal(written)
    if written == _OF_START:
        return _alarm_id(pipeline, body)
    if not 0 < written <= len(before):
        raise CorruptError(f"an alarm of {written} events before")
    return before[-written]


def _binary(identity: str) -> bytes:
    try:
        short = bytes.fromhex(identity)
    except ValueError:
        short = b""
    return short if short.hex() == identity and short[:1] not in (b"", _AS_TEXT) else _AS_TEXT + identity.encode()


def _hexadecimal(identity: bytes) -> str:
    return identity[1:].decode() if identity[:1] == _AS_TEXT else identity.hex()


def _word(text: str | None) -> Text:
    return None if text is None else _WORDS.get(text, text)


def _text(word: Text) -> str | None:
    return _TEXTS[word] if isinstance(word, int) else word


def _single(score: Amount) -> Score:
    if isinstance(score, float):
        try:
            short = struct.pack("<f", score)
        except OverflowError:
            return score
        return short if struct.unpack("<f", short)[0] == score else score
    return score


def _double(score: Score) -> Amount:
    if isinstance(score, bytes):
        if len(score) != 4:
            raise CorruptError("a score of another length")
        return float(struct.unpack("<f", score)[0])
    return score
