"""Packed columns: every block gives its samples back bit for bit, says so in its header, and refuses what it did not make."""

import math
import struct
import zlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from skerry.core.errors import CorruptError, RejectedError
from skerry.store.columns import MOST_SAMPLES, pack, pack_table, summary, unpack, unpack_table

TIMES = st.one_of(st.integers(-(2**63), 2**63 - 1), st.integers(1_700_000_000, 1_700_000_100).map(lambda s: s * 1_000_000))
VALUES = st.one_of(
    st.floats(),
    st.integers(-(2**53), 2**53).map(float),
    st.decimals(-1_000_000, 1_000_000, allow_nan=False, places=3).map(float),
    st.sampled_from([0.0, -0.0, math.inf, -math.inf, math.nan, 1e300, 5e-324, 0.1 + 0.2, 4503599627370496.5]),
)


def columns(rows: list[tuple[int, float]]) -> tuple[np.ndarray, np.ndarray]:
    return np.array([time for time, _ in rows], np.int64), np.array([value for _, value in rows], np.float64)


def bits(values: np.ndarray) -> list[int]:
    return values.view(np.int64).tolist()


@given(st.lists(st.tuples(TIMES, VALUES), min_size=1, max_size=60))
def test_every_sample_comes_back_bit_for_bit_in_its_order(rows: list[tuple[int, float]]) -> None:
    times, values = columns(rows)
    found_times, found_values = unpack(pack(times, values))
    assert found_times.tolist() == times.tolist()
    assert bits(found_values) == bits(values)


@given(st.lists(st.tuples(TIMES, VALUES), min_size=1, max_size=40))
def test_the_header_says_what_the_samples_say(rows: list[tuple[int, float]]) -> None:
    times, values = columns(rows)
    found = summary(pack(times, values))
    known = [value for _, value in rows if not math.isnan(value)]
    assert (found.count, found.numbers) == (len(rows), len(known))
    assert (found.start, found.end) == (min(times.tolist()), max(times.tolist()))
    assert bits(np.array([found.first, found.last])) == bits(values[[0, -1]])
    if known:
        assert (found.minimum, found.maximum) == (min(known), max(known))
        with np.errstate(all="ignore"):
            assert np.array_equal(found.total, np.array(known).sum(), equal_nan=True)
    else:
        assert all(math.isnan(each) for each in (found.minimum, found.maximum, found.total))


@pytest.mark.parametrize("bad", [math.nan, math.inf, -0.0, 1e300, 0.1 + 0.2])
def test_one_odd_value_among_decimals_stays_what_it_is(bad: float) -> None:
    times = np.arange(500) * 1_000_000
    values = np.round(np.linspace(0, 10, 500), 2)
    values[321] = bad
    assert bits(unpack(pack(times, values))[1]) == bits(values)


def test_readings_with_two_decimals_each_second_take_less_than_a_byte() -> None:
    chance = np.random.default_rng(5)
    times = 1_700_000_000_000_000 + np.arange(3600) * 1_000_000
    values = np.round(20 + np.cumsum(chance.normal(0, 0.05, 3600)), 2)
    late = np.rint(chance.normal(0, 3, 3600)).astype(np.int64) * 1000
    assert len(pack(times, values)) / 3600 < 0.66
    assert len(pack(times + late, values)) / 3600 < 1.25


def test_a_constant_and_one_sample_are_small() -> None:
    assert len(pack(np.arange(3600) * 1_000_000, np.full(3600, 21.5))) < 200
    assert len(pack(np.array([5]), np.array([1.25]))) < 150


def test_numbers_without_decimal_form_take_no_more_than_they_are() -> None:
    values = np.random.default_rng(6).normal(size=4096)
    assert len(pack(np.arange(4096) * 1000, values)) < 4096 * 8.1


@pytest.mark.parametrize(
    ("times", "values"),
    [
        (np.array([], np.int64), np.array([], np.float64)),
        (np.array([1, 2]), np.array([1.0])),
        (np.array([1.0]), np.array([1.0])),
        (np.array([1]), np.array([1.0], np.float32)),
        (np.array([[1]]), np.array([[1.0]])),
        (np.zeros(MOST_SAMPLES + 1, np.int64), np.zeros(MOST_SAMPLES + 1)),
    ],
)
def test_what_is_no_column_is_refused(times: np.ndarray, values: np.ndarray) -> None:
    with pytest.raises(RejectedError):
        pack(times, values)


@given(st.data())
def test_a_flipped_bit_or_a_lost_tail_is_found(data: st.DataObject) -> None:
    block = pack(np.arange(50) * 1000, np.round(np.sin(np.arange(50)), 2))
    at = data.draw(st.integers(0, len(block) * 8 - 1))
    flipped = bytearray(block)
    flipped[at // 8] ^= 1 << at % 8
    for bad in (bytes(flipped), block[: at // 8]):
        with pytest.raises(CorruptError):
            unpack(bad)
        with pytest.raises(CorruptError):
            summary(bad)


def test_a_later_format_is_refused_with_the_mend() -> None:
    body = pack(np.array([1]), np.array([1.0]))[4:]
    assert body[:2] == b"\x94\x01"
    later = body[:1] + b"\x02" + body[2:]
    with pytest.raises(CorruptError, match="format 2") as caught:
        unpack(struct.pack("<I", zlib.crc32(later)) + later)
    assert "version" in (caught.value.mend or "")


@given(st.lists(st.tuples(TIMES, VALUES, VALUES), min_size=1, max_size=40))
def test_values_that_share_their_times_come_back_bit_for_bit(rows: list[tuple[int, float, float]]) -> None:
    times = np.array([row[0] for row in rows], np.int64)
    values = [np.array([row[at] for row in rows], np.float64) for at in (1, 2)]
    found_times, found = unpack_table(pack_table(times, values), 3 * len(rows))
    assert found_times.tolist() == times.tolist()
    assert [bits(column) for column in found] == [bits(column) for column in values]
    with pytest.raises(CorruptError, match="are allowed"):
        unpack_table(pack_table(times, values), 3 * len(rows) - 1)


@pytest.mark.parametrize("rubbish", [b"", b"\x94\x01\x01\xc0\x90", b"\x94\x01\x01\x90\x90"])
def test_a_table_that_is_none_is_refused(rubbish: bytes) -> None:
    with pytest.raises(CorruptError):
        unpack_table(rubbish, 100)
