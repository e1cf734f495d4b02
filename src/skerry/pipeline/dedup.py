"""A publisher's re-sends: told by a number a message, of which the last ones a key are remembered. Pure."""

import zlib

from skerry.pipeline.rule import digest
from skerry.window.state import Row

_POSITIVE = 0x7FFFFFFFFFFFFFFF  # what msgpack holds


def mark_of(kind: str, payload: bytes, rows: list[Row], identity: object) -> int:
    """What re-sends of one message share: for `time` its payload (upper 32 bits) and time (all bits), for `id` its id."""
    if kind == "time":
        return (zlib.crc32(payload) << 31 ^ int(rows[0][0])) & _POSITIVE
    # a number of any length: its remainder has a text, itself may not
    name = str(identity % (_POSITIVE + 1)) if isinstance(identity, int) else str(identity)
    return int(digest(name), 16) & _POSITIVE


def seen_before(recent: list[int], mark: int, horizon: int) -> bool:
    """Whether the mark is among the last `horizon`; if not, it is remembered."""
    if mark in recent:
        return True
    recent.append(mark)
    if len(recent) > horizon:
        del recent[0]
    return False
