"""What waits for the link: one event, the roll-ups of a minute, or packed raw samples; nothing in it is withheld any more."""

from typing import Literal

import msgspec

from skerry.core.errors import CorruptError

Kind = Literal["event", "rollup", "raw"]
Priority = Literal["alarm", "normal", "bulk"]
PRIORITIES: tuple[Priority, ...] = ("alarm", "normal", "bulk")
"""The first ones leave first; only `bulk` is ever thinned."""
Lane = Literal["alarm", "normal", "bulk", "held.normal", "held.bulk"]
HELD: dict[Priority, Lane] = {"normal": "held.normal", "bulk": "held.bulk"}
"""Where items wait whose pipeline has sent what it may, until they are moved to the lane of their priority."""
LANES: tuple[Lane, ...] = ("alarm", "normal", "bulk", "held.normal", "held.bulk")


class Item(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """One thing that leaves as a whole.

    Attributes:
        id: the same in each replay; it tells nothing of what is redacted.
        time: microseconds: an event's end, else the newest sample.
        rows: samples, or rows of a roll-up; 1 for an event.
        body: an event (`skerry.uplink.notice`), or a table of numbers (`skerry.uplink.table`).
    """

    kind: Kind
    priority: Priority
    id: str
    pipeline: str
    time: int
    rows: int
    body: bytes


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(Item).decode


def encode_item(item: Item) -> bytes:
    """The item as it stands in the queue."""
    return _encode(item)


def decode_item(payload: bytes) -> Item:
    """The item of a message in the queue. Raises `CorruptError`."""
    try:
        return _decode(payload)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise CorruptError(f"an item of the uplink's queue cannot be read: {error}") from error
