"""What stands in the engine for one value: when it ends, when it was written, and the value. Pure.

A plain value costs one byte. Entries of the two indexes put times before names, so that the first keys are the oldest.
"""

import struct
from typing import NamedTuple

from skerry.core.errors import CorruptError, RejectedError
from skerry.store.config import MOST_KEY, MOST_VALUE

PLAIN, ENDS, DATED = 0, 1, 2
_TIME = struct.Struct(">q")
_NEVER = -1


class Entry(NamedTuple):
    """A value and its times in microseconds, -1 for none: `ends` by its time to live, `written` where it may be evicted."""

    value: bytes
    ends: int = _NEVER
    written: int = _NEVER

    def alive(self, now: int) -> bool:
        """Whether its time to live is not over."""
        return self.ends < 0 or now < self.ends


def encode(entry: Entry) -> bytes:
    """The bytes that stand in the engine."""
    if entry.ends < 0 and entry.written < 0:
        return b"\0" + entry.value
    kind = (ENDS if entry.ends >= 0 else 0) | (DATED if entry.written >= 0 else 0)
    times = b"".join(_TIME.pack(time) for time in (entry.ends, entry.written) if time >= 0)
    return bytes([kind]) + times + entry.value


def decode(data: bytes) -> Entry:
    """The entry in an engine's bytes. Raises `CorruptError`."""
    kind = data[0] if data else 255
    if kind == PLAIN:
        return Entry(data[1:])
    size = 1 + 8 * ((kind & ENDS != 0) + (kind & DATED != 0))
    if kind > (ENDS | DATED) or len(data) < size:
        raise CorruptError("an entry of the store cannot be read")
    ends = _TIME.unpack_from(data, 1)[0] if kind & ENDS else _NEVER
    written = _TIME.unpack_from(data, size - 8)[0] if kind & DATED else _NEVER
    return Entry(data[size:], ends, written)


def index_key(time: int, table: str, key: bytes) -> bytes:
    """Key of an index entry: in order of time."""
    return _TIME.pack(time) + table.encode() + b"\0" + key


def read_index_key(data: bytes) -> tuple[int, str, bytes]:
    """Time, table and key of an index entry."""
    table, _, key = data[8:].partition(b"\0")
    return _TIME.unpack_from(data)[0], table.decode(), key


def check_key(key: bytes) -> None:
    """Raise `RejectedError` for what is no key: bytes, 1 to 64 KiB."""
    if not isinstance(key, bytes):
        raise RejectedError(f"a key is bytes, not {type(key).__name__}", mend='write b"…" or encode the text')
    if not 1 <= len(key) <= MOST_KEY:
        raise RejectedError(f"a key of {len(key)} bytes", mend=f"a key has 1 to {MOST_KEY} bytes")


def check_value(value: bytes) -> None:
    """Raise `RejectedError` for what is no value: bytes, to 64 MiB."""
    if not isinstance(value, bytes):
        raise RejectedError(f"a value is bytes, not {type(value).__name__}", mend='write b"…" or encode it')
    if len(value) > MOST_VALUE:
        raise RejectedError(f"a value of {len(value)} bytes", mend=f"a value has at most {MOST_VALUE} bytes")


def check_table(table: str) -> None:
    """Raise `RejectedError` for what is no name of a table: 1 to 64 of letters, digits, `_` and `-`."""
    if not 1 <= len(table) <= 64 or not table.isascii() or not table.replace("_", "a").replace("-", "a").isalnum():
        raise RejectedError(f"{table[:80]!r} is no name of a table", mend="use 1 to 64 letters, digits, _ and -")


def after_prefix(prefix: bytes) -> bytes:
    """The first key behind all that begin with the prefix; empty: there is none."""
    bare = prefix.rstrip(b"\xff")
    return bare[:-1] + bytes([bare[-1] + 1]) if bare else b""
