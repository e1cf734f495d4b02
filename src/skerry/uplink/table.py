"""Numbers on their way: rows of several values by device, their columns packed as the history packs them. Pure.

A device's rows stand together, in the order in which they came: so the columns pack as well as if each device had its own, and the
names of values and devices are written once. A roll-up's row is a stretch of time; each of its values has five columns.
"""

from typing import NamedTuple

import msgspec
import numpy as np

from skerry.core.errors import CorruptError, RejectedError
from skerry.store import Floats, Ints, pack_table, unpack_table
from skerry.uplink.item import Item
from skerry.uplink.notice import features_of

MOST_NUMBERS = 1 << 18
"""Numbers of one table, and of one envelope, that a receiver takes."""
AGGREGATES = ("count", "min", "max", "sum", "last")
"""The columns of each value of a roll-up."""


class Table(NamedTuple):
    """N rows: `counts[i]` of `keys[i]`, one behind the other.

    Attributes:
        width: seconds of a roll-up's stretch, whose start is the time; 0: samples.
        names: of the values. times: int64 [N], microseconds.
        columns: float64 [N] each, one a name; of a roll-up five a name, in the order of `AGGREGATES`.
    """

    width: int
    names: tuple[str, ...]
    keys: list[str]
    counts: list[int]
    times: Ints
    columns: list[Floats]


class _Packed(msgspec.Struct, frozen=True, array_like=True):
    width: int
    names: tuple[str, ...]
    keys: list[str]
    counts: list[int]
    block: bytes


_decode = msgspec.msgpack.Decoder(_Packed).decode
Rows = dict[str, list[tuple[float, ...]]]
"""By key: microseconds (whole), then the columns' numbers."""


def encode_rows(rows: Rows, names: tuple[str, ...], width: int = 0) -> bytes:
    """The table of rows by key, packed."""
    keys = [key for key, found in rows.items() if found]
    flat = [row for key in keys for row in rows[key]]
    array = np.array([row[1:] for row in flat], np.float64)
    times = np.array([row[0] for row in flat], np.float64).astype(np.int64)
    counts = [len(rows[key]) for key in keys]
    return encode_table(Table(width, names, keys, counts, times, [array[:, at].copy() for at in range(array.shape[1])]))


def encode_table(table: Table) -> bytes:
    """The body of an item. Raises `RejectedError` for more numbers than a receiver takes."""
    numbers = len(table.times) * (1 + len(table.columns))
    if numbers > MOST_NUMBERS:
        raise RejectedError(f"a table of {numbers} numbers; {MOST_NUMBERS} are allowed")
    block = pack_table(table.times, table.columns)
    return msgspec.msgpack.encode(_Packed(table.width, table.names, table.keys, table.counts, block))


def numbers_of(item: Item) -> int:
    """How many numbers a receiver will count for an item, told before they are unpacked. Raises `CorruptError`."""
    if item.kind == "event":
        return 1 + features_of(item.body)
    found = _unpacked(item.body)
    return sum(found.counts) * (1 + len(found.names) * (len(AGGREGATES) if found.width else 1))


def decode_table(body: bytes, most: int = MOST_NUMBERS) -> Table:
    """The table of an item's body. Raises `CorruptError` for what is none, or for more than `most` numbers."""
    found = _unpacked(body)
    times, columns = unpack_table(found.block, most)
    each = len(AGGREGATES) if found.width else 1
    if (
        len(columns) != each * len(found.names)
        or len(found.keys) != len(found.counts)
        or min(found.counts, default=0) < 1
        or sum(found.counts) != len(times)
        or found.width < 0
    ):
        raise CorruptError("a table of the uplink does not hold what it says")
    return Table(found.width, found.names, found.keys, found.counts, times, columns)


def _unpacked(body: bytes) -> _Packed:
    try:
        return _decode(body)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise CorruptError(f"a table of the uplink cannot be read: {error}") from error
