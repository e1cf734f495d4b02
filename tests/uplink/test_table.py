"""Tables of numbers: bit for bit what they were, and nothing that could take memory is unpacked."""

import math
import struct
from typing import Any

import msgspec
import numpy as np
import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from skerry.core.errors import CorruptError, RejectedError
from skerry.store import pack_table
from skerry.uplink.item import Item
from skerry.uplink.table import MOST_NUMBERS, Rows, Table, decode_table, encode_rows, encode_table, numbers_of
from tests.uplink.rig import gatherer, happening, pipeline

VALUES = st.one_of(
    st.floats(), st.integers(-(2**53), 2**53).map(float), st.decimals(-1000, 1000, allow_nan=False, places=2).map(float),
    st.sampled_from([0.0, -0.0, math.inf, -math.inf, math.nan, 1e300, 5e-324]),
)  # fmt: skip
ROWS = st.dictionaries(st.text(max_size=8), st.lists(st.tuples(st.integers(0, 10**16), VALUES, VALUES), max_size=8), max_size=5)


def bits(values: Any) -> list[int]:
    return [struct.unpack("<q", struct.pack("<d", value))[0] for value in values]


@given(ROWS)
def test_every_number_comes_back_bit_for_bit(rows: dict[str, list[tuple[int, float, float]]]) -> None:
    floats: Rows = {key: [(float(time), x, y) for time, x, y in found] for key, found in rows.items()}
    if not any(rows.values()):
        return
    table = decode_table(encode_rows(floats, ("x", "y")))
    assert (table.width, table.names) == (0, ("x", "y"))
    assert table.keys == [key for key, found in rows.items() if found]
    assert table.counts == [len(found) for found in rows.values() if found]
    flat = [row for found in rows.values() for row in found]
    assert table.times.tolist() == [int(float(time)) for time, _, _ in flat]
    assert bits(table.columns[0]) == bits(x for _, x, _ in flat)
    assert bits(table.columns[1]) == bits(y for _, _, y in flat)


def block(count: int = 2, columns: int = 1) -> bytes:
    return pack_table(np.arange(count, dtype=np.int64), [np.ones(count)] * columns)


@pytest.mark.parametrize(
    "body",
    [
        b"", b"\x90", msgspec.msgpack.encode((0, ("x",), ["a"], [2], b"rubbish")),
        msgspec.msgpack.encode((0, ("x",), ["a"], [3], block())), msgspec.msgpack.encode((0, ("x", "y"), ["a"], [2], block())),
        msgspec.msgpack.encode((0, ("x",), ["a", "b"], [2], block())), msgspec.msgpack.encode((60, ("x",), ["a"], [2], block())),
        msgspec.msgpack.encode((0, ("x",), ["a", "b"], [3, -1], block())),
        msgspec.msgpack.encode((-60, ("x",), ["a"], [2], block(columns=5))),
    ],
)  # fmt: skip
def test_what_does_not_fit_together_is_refused(body: bytes) -> None:
    with pytest.raises(CorruptError):
        decode_table(body)


def test_more_numbers_than_allowed_are_refused_on_both_sides() -> None:
    whole = np.zeros(MOST_NUMBERS // 2 + 1)
    with pytest.raises(RejectedError, match="are allowed"):
        encode_table(Table(0, ("x",), ["a"], [len(whole)], whole.astype(np.int64), [whole]))
    body = msgspec.msgpack.encode((0, ("x",), ["a"], [len(whole)], pack_table(whole.astype(np.int64), [whole])))
    with pytest.raises(CorruptError, match="are allowed"):
        decode_table(body)


COLUMN: dict[str, Any] = {"kind": "delta", "width": 1, "body": b"", "rest": [0, 1, 0, 0, b"", b""]}


def column(**changes: Any) -> list[Any]:
    found = {**COLUMN, "body": zstandard.ZstdCompressor().compress(bytes(2)), **changes}
    return [found["kind"], found["width"], found["body"], *found["rest"]]


BOMB = zstandard.ZstdCompressor().compress(bytes(1 << 28))
SILENT = zstandard.ZstdCompressor(write_content_size=False).compress(bytes(1 << 28))


@pytest.mark.parametrize(
    "changes",
    [
        {"body": BOMB}, {"body": SILENT}, {"body": b"x"}, {"width": 3}, {"width": 1 << 40}, {"width": -1}, {"kind": "x"},
        {"rest": [400, 1, 0, 0, b"", b""]}, {"rest": [0, 1 << 63, 0, 0, b"", b""]}, {"rest": [0, 1, -(1 << 63), 0, b"abc", b""]},
        {"rest": [0, 1, 0, 0, b"\xff\xff\xff\x7f", bytes(8)]}, {"rest": [0, 1, 0, 0, bytes(4), b""]},
        {"kind": "bits", "width": 4},
    ],
)  # fmt: skip
def test_a_hostile_column_is_refused(changes: dict[str, Any]) -> None:
    good = msgspec.msgpack.encode((0, ("x",), ["a"], [2], msgspec.msgpack.encode([1, 2, column(), [column()]])))
    assert decode_table(good).columns[0].tolist() == [0.0, 0.0]
    bad = msgspec.msgpack.encode((0, ("x",), ["a"], [2], msgspec.msgpack.encode([1, 2, column(), [column(**changes)]])))
    with pytest.raises(CorruptError):
        decode_table(bad)


def test_huge_counts_are_refused_before_anything_is_unpacked() -> None:
    for count in (1 << 60, 1 << 20, 0, -1):
        inner = msgspec.msgpack.encode([1, count, column(body=BOMB), [column(body=BOMB)]])
        with pytest.raises(CorruptError):
            decode_table(msgspec.msgpack.encode((0, ("x",), ["a"], [count], inner)))


def test_numbers_are_counted_without_unpacking_them() -> None:
    samples, minutes = encode_rows({"a": [(1.0, 2.0, 3.0)] * 4}, ("x", "y")), encode_rows({"a": [(0.0, *[1.0] * 5)]}, ("x",), 60)
    assert numbers_of(Item("raw", "bulk", "i", "p", 0, 4, samples)) == 12
    assert numbers_of(Item("rollup", "normal", "i", "p", 0, 1, minutes)) == 6
    chosen = pipeline({"select": ["event", "features"]})
    event = gatherer(chosen).feed([], [happening(1, 0, 1, features={"x_mean": 1.0, "x_std": 2.0})], 0)[0]
    assert numbers_of(event) == 3
    for item in (event, Item("raw", "bulk", "i", "p", 0, 1, b"")):
        with pytest.raises(CorruptError):
            numbers_of(msgspec.structs.replace(item, body=b""))
