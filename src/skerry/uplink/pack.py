"""The items of an envelope as columns: what all have in common stands there once, and what can be computed not at all. Pure."""

import itertools
from collections.abc import Sequence
from typing import get_args

import msgspec

from skerry.core.errors import CorruptError
from skerry.uplink.columns import Most, Whole, column, spread, steps
from skerry.uplink.event_columns import Body, EventColumns, Ids, body_of, columns_of, long_id, rows_of, short_id
from skerry.uplink.item import Item, Kind, Priority

_KINDS: tuple[Kind, ...] = get_args(Kind)
_EVENT, _PLAIN_EVENT = 0, len(_KINDS)
_UNITS = (1_000_000, 1000, 1)
_BROKEN = (
    msgspec.MsgspecError,
    UnicodeDecodeError,
    RecursionError,
    StopIteration,
    LookupError,
    ValueError,
    TypeError,
    OverflowError,
)
Numbered = tuple[int, Item]


class _Packed(msgspec.Struct, array_like=True, gc=False):
    """As they are written.

    Attributes:
        numbers: steps from one to the next. kinds: places in `Kind`; 3: an event whose body stands among `bodies`.
        time: the first, in `unit` microseconds. times: steps from one to the next.
        bodies: of all that are not in `events`.
    """

    numbers: Whole
    kinds: Whole
    ids: Ids
    pipelines: str | Most[str]
    unit: int
    time: int
    times: Whole
    rows: Whole
    bodies: Most[bytes]
    events: EventColumns | None = None


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(_Packed).decode


def pack(items: Sequence[Numbered], node: str) -> bytes:
    """Items of one priority of a node, with rising numbers; at least one."""
    found = [item for _, item in items]
    bodies = [body_of(item) for item in found]
    both = list(zip(found, bodies, strict=True))
    unit = next(each for each in _UNITS if not any(item.time % each for item in found))
    times = [item.time // unit for item in found]
    events = [(item, body) for item, body in both if body is not None]
    return _encode(
        _Packed(
            column(steps([number for number, _ in items])),
            column([_kind(item, body) for item, body in both]),
            column([short_id(item, body) for item, body in both]),
            column([item.pipeline for item in found]),
            unit,
            times[0],
            column(steps(times)),
            column([item.rows for item in found]),
            [item.body for item, body in both if body is None],
            columns_of(events, node) if events else None,
        )
    )


def unpack(packed: bytes, first: int, count: int, lane: Priority, node: str, most: int) -> list[Numbered]:
    """The items that were packed, with their numbers. Raises `CorruptError` for what is none, or takes more than `most` bytes."""
    try:
        return _unpacked(_decode(packed), first, count, lane, node, most)
    except _BROKEN as error:
        raise CorruptError(f"its columns do not fit together: {error}") from error


def _unpacked(found: _Packed, first: int, count: int, lane: Priority, node: str, most: int) -> list[Numbered]:
    kinds = spread(found.kinds, count)
    events = rows_of(found.events, kinds.count(_EVENT), node)
    bodies = iter(found.bodies)
    items: list[Numbered] = []
    for number, kind, identity, pipeline, time, rows in zip(
        itertools.accumulate(spread(found.numbers, count - 1), initial=first),
        kinds,
        spread(found.ids, count),
        spread(found.pipelines, count),
        itertools.accumulate(spread(found.times, count - 1), initial=found.time),
        spread(found.rows, count),
        strict=True,
    ):
        at = time * found.unit
        if not 0 <= kind <= _PLAIN_EVENT:
            raise CorruptError(f"{kind} is no kind of item")
        event = next(events)(pipeline, at) if kind == _EVENT else None
        body = next(bodies) if event is None else _encode(event)
        name = long_id(identity, pipeline, event)
        most -= len(body) + len(name) + len(pipeline)
        if most < 0:
            raise CorruptError("it would unpack to more than it may")
        items.append((number, Item(_KINDS[kind % _PLAIN_EVENT], lane, name, pipeline, at, rows, body)))
    if next(bodies, None) is not None or next(events, None) is not None:
        raise CorruptError("it holds more than its header names")
    return items


def _kind(item: Item, body: Body | None) -> int:
    return _PLAIN_EVENT if item.kind == "event" and body is None else _KINDS.index(item.kind)
